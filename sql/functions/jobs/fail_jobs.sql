-- Internal: record these images as failures of a space and remove their jobs, if lease `claim` still holds them.
--
-- The arrays run in parallel. An image that another transaction locks is skipped, and its job stays. It returns
-- the ids that it recorded.
--
-- It also deletes an embedding of other bytes: the trigger of a REPEATABLE READ writer does not see an embedding
-- that was written since its snapshot, and leaves it.

-- Images are locked before jobs, and with SKIP LOCKED; lookalike.finish_jobs gives the reasons.
CREATE OR REPLACE FUNCTION lookalike.fail_jobs(
    in_space smallint, claim uuid, image_ids bigint[], steps text[], reasons text[]
) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    space_table text;
    parked bigint[];
BEGIN
    SELECT s.table_name INTO STRICT space_table FROM lookalike.embedding_spaces s WHERE s.id = in_space;
    WITH held AS MATERIALIZED (
        SELECT i.id, i.uri FROM lookalike.images i WHERE i.id = ANY (image_ids) ORDER BY i.id
        FOR KEY SHARE SKIP LOCKED
    ), mine AS MATERIALIZED (
        SELECT j.image_id, h.uri FROM lookalike.jobs j JOIN held h ON h.id = j.image_id
        WHERE j.space_id = in_space AND j.lease = claim
        FOR UPDATE OF j SKIP LOCKED
    ), done AS (
        DELETE FROM lookalike.jobs j USING mine m
        WHERE j.image_id = m.image_id AND j.space_id = in_space
        RETURNING j.image_id, m.uri, j.attempts
    ), failed AS (
        INSERT INTO lookalike.failures (space_id, image_id, uri, step, reason, attempts)
        SELECT in_space, d.image_id, d.uri, n.step, n.reason, d.attempts
        FROM done d
        JOIN unnest(image_ids, steps, reasons) AS n (id, step, reason) ON n.id = d.image_id
        ON CONFLICT (image_id, space_id) DO UPDATE
        SET uri = excluded.uri, step = excluded.step, reason = excluded.reason, attempts = excluded.attempts,
            failed_at = clock_timestamp()
        RETURNING failures.image_id
    )
    SELECT array_agg(f.image_id) INTO parked FROM failed f;
    IF parked IS NOT NULL THEN
        EXECUTE format('DELETE FROM lookalike.%I WHERE image_id = ANY ($1)', space_table) USING parked;
    END IF;
    RETURN QUERY SELECT unnest(parked);
END
$$;
