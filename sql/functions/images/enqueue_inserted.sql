-- Internal: trigger function that queues a job for each new image in each embedding space.
--
-- It runs after a statement that inserted images, in the writer's transaction, and sends one notification.
CREATE OR REPLACE FUNCTION lookalike.enqueue_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO lookalike.jobs (space_id, image_id)
    SELECT s.id, n.id FROM lookalike.embedding_spaces s CROSS JOIN inserted n
    ORDER BY s.id, n.id;
    IF FOUND THEN
        PERFORM pg_notify('lookalike_jobs', '');
    END IF;
    RETURN NULL;
END
$$;
