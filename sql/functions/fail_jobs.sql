-- Parks these images as failures of the space, with the step and the reason, and removes their jobs, where the lease
-- `claim` still holds them. The arrays run in parallel. Returns the number parked.
CREATE OR REPLACE FUNCTION lookalike.fail_jobs(
    in_space smallint, claim uuid, image_ids bigint[], steps text[], reasons text[]
) RETURNS bigint
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH done AS (
        DELETE FROM lookalike.jobs j
        WHERE j.image_id = ANY (image_ids) AND j.space_id = in_space AND j.lease = claim
        RETURNING j.image_id, j.attempts
    ), parked AS (
        INSERT INTO lookalike.failures (space_id, image_id, uri, step, reason, attempts)
        SELECT in_space, d.image_id, i.uri, n.step, n.reason, d.attempts
        FROM done d
        JOIN unnest(image_ids, steps, reasons) AS n (id, step, reason) ON n.id = d.image_id
        JOIN lookalike.images i ON i.id = d.image_id
        ON CONFLICT (image_id, space_id) DO UPDATE
        SET uri = excluded.uri, step = excluded.step, reason = excluded.reason, attempts = excluded.attempts,
            failed_at = clock_timestamp()
        RETURNING 1
    )
    SELECT count(*) FROM parked;
$$;
