-- The part of lookalike.enqueue_missing among the `most` images that follow `after_id`, in short order: a worker walks so
-- through all images, a transaction a part, and never holds back vacuum for long. Returns the number of jobs, and the id
-- to go on after, NULL where there are no more.
CREATE OR REPLACE FUNCTION lookalike.enqueue_missing_after(
    for_space smallint, after_id bigint, most int, OUT queued bigint, OUT last_id bigint
)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    space_table text;
BEGIN
    SELECT s.table_name INTO STRICT space_table FROM lookalike.embedding_spaces s WHERE s.id = for_space;
    SELECT max(p.id) INTO last_id
    FROM (SELECT i.id FROM lookalike.images i WHERE i.id > after_id ORDER BY i.id LIMIT most) p;
    EXECUTE format($query$
        INSERT INTO lookalike.jobs (space_id, image_id)
        SELECT $1, i.id FROM lookalike.images i
        WHERE i.id > $2 AND i.id <= $3
          AND NOT EXISTS (SELECT FROM lookalike.%I e WHERE e.image_id = i.id)
          AND NOT EXISTS (SELECT FROM lookalike.jobs j WHERE j.image_id = i.id AND j.space_id = $1)
          AND NOT EXISTS (SELECT FROM lookalike.failures f WHERE f.image_id = i.id AND f.space_id = $1)
        FOR KEY SHARE OF i SKIP LOCKED
        ON CONFLICT DO NOTHING
        $query$, space_table) USING for_space, after_id, last_id;
    GET DIAGNOSTICS queued = ROW_COUNT;
    IF queued > 0 THEN
        PERFORM pg_notify('lookalike_jobs', '');
    END IF;
END
$$;
