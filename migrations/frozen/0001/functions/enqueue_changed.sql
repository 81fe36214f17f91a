-- Trigger function, after a statement that updated images. Where the content changed (another uri, or another sha256
-- than the one known; a sha256 learnt for the first time is no change) the old embeddings go and jobs come, in the
-- writer's transaction. Where only metadata changed nothing happens. A lease that a worker holds on such an image is
-- broken, so that what it embedded from the old bytes is not written.
CREATE OR REPLACE FUNCTION lookalike.enqueue_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    changed bigint[];
BEGIN
    SELECT array_agg(n.id ORDER BY n.id) INTO changed
    FROM before_change o JOIN after_change n USING (id)
    WHERE n.uri <> o.uri OR (o.sha256 IS NOT NULL AND n.sha256 IS DISTINCT FROM o.sha256);
    IF changed IS NOT NULL THEN
        PERFORM lookalike.forget_embeddings(changed);
        PERFORM lookalike.enqueue(changed);
    END IF;
    RETURN NULL;
END
$$;
