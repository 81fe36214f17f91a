-- Queue up to `most` images that have neither an embedding nor a job nor a failure in this space; return how many.
--
-- Triggers leave such images only if they did not run: the space is younger than a writer's snapshot, or a restore
-- or replication had triggers off. An image that another transaction is changing or deleting is left to the next
-- call, so that neither waits for the other.
--
-- Example:
--     SELECT lookalike.enqueue_missing(id) FROM lookalike.embedding_spaces WHERE active;
CREATE OR REPLACE FUNCTION lookalike.enqueue_missing(for_space smallint, most int DEFAULT 100000) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    space_table text;
    queued bigint;
BEGIN
    SELECT s.table_name INTO STRICT space_table FROM lookalike.embedding_spaces s WHERE s.id = for_space;
    EXECUTE format($query$
        INSERT INTO lookalike.jobs (space_id, image_id)
        SELECT $1, i.id FROM lookalike.images i
        WHERE NOT EXISTS (SELECT FROM lookalike.%I e WHERE e.image_id = i.id)
          AND NOT EXISTS (SELECT FROM lookalike.jobs j WHERE j.image_id = i.id AND j.space_id = $1)
          AND NOT EXISTS (SELECT FROM lookalike.failures f WHERE f.image_id = i.id AND f.space_id = $1)
        LIMIT $2
        FOR KEY SHARE OF i SKIP LOCKED
        ON CONFLICT DO NOTHING
        $query$, space_table) USING for_space, most;
    GET DIAGNOSTICS queued = ROW_COUNT;
    IF queued > 0 THEN
        PERFORM pg_notify('lookalike_jobs', '');
    END IF;
    RETURN queued;
END
$$;
