-- Trigger function, after a statement that updated images. Where the content changed (another uri, or another sha256
-- than the one known) the old embeddings go and jobs come, in the writer's transaction. Where only metadata changed
-- nothing happens. A lease that a worker holds on such an image is broken, so that what it embedded from the old bytes
-- is not written.
--
-- A sha256 told for the first time is no such change: nothing was embedded yet. But the bytes in a worker's hands, and
-- those that could not be embedded, may be others than those told of now: so leases are broken then too, and failures are
-- tried again. Not where lookalike.finish_jobs tells it, of the bytes that it has just embedded.
CREATE OR REPLACE FUNCTION lookalike.enqueue_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    changed bigint[];
    told bigint[];
BEGIN
    SELECT array_agg(n.id ORDER BY n.id) FILTER (WHERE n.uri <> o.uri OR o.sha256 IS NOT NULL),
           array_agg(n.id ORDER BY n.id) FILTER (WHERE n.uri = o.uri AND o.sha256 IS NULL)
    INTO changed, told
    FROM before_change o JOIN after_change n USING (id)
    WHERE n.uri <> o.uri OR n.sha256 IS DISTINCT FROM o.sha256;
    IF changed IS NOT NULL THEN
        PERFORM lookalike.forget_embeddings(changed);
        PERFORM lookalike.enqueue(changed);
    END IF;
    IF told IS NOT NULL AND current_setting('lookalike.learning', true) IS DISTINCT FROM 'on' THEN
        UPDATE lookalike.jobs j
        SET lease = NULL, available_at = least(j.available_at, clock_timestamp()), attempts = 0
        WHERE j.image_id = ANY (told) AND j.attempts > 0;
        IF FOUND THEN
            PERFORM pg_notify('lookalike_jobs', '');
        END IF;
        PERFORM lookalike.retry_failures(told);
    END IF;
    RETURN NULL;
END
$$;
