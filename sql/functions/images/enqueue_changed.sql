-- Internal: trigger function that queues images whose content changed, after a statement that updated images.
--
-- If the content changed (another uri, or another sha256 than the known one), it deletes the embeddings and queues
-- jobs in the writer's transaction. It breaks the lease of a worker on such an image, so that an embedding of the
-- old bytes is not written. If only metadata changed, it does nothing.
--
-- A first sha256 is not a change, because nothing was embedded before. But a worker may hold other bytes, or other
-- bytes may have failed: so it breaks leases and retries failures. It does not if lookalike.finish_jobs records
-- the sha256 of the bytes that it has just embedded.
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
