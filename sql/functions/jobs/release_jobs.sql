-- Internal: give up the lease `claim` on these jobs, and return their number.
--
-- They are due again after `delay_seconds`. With `unattempted`, the claim does not count as an attempt: a worker
-- that shuts down returns jobs that it had not begun. A job whose row another transaction locks is skipped: that
-- transaction queues it again, or its lease ends.
CREATE OR REPLACE FUNCTION lookalike.release_jobs(
    in_space smallint, claim uuid, image_ids bigint[], delay_seconds float8 DEFAULT 0, unattempted boolean DEFAULT false
) RETURNS bigint
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH mine AS MATERIALIZED (
        SELECT j.image_id FROM lookalike.jobs j
        WHERE j.image_id = ANY (image_ids) AND j.space_id = in_space AND j.lease = claim
        FOR UPDATE SKIP LOCKED
    ), released AS (
        UPDATE lookalike.jobs j
        SET lease = NULL, available_at = clock_timestamp() + make_interval(secs => delay_seconds),
            attempts = j.attempts - unattempted::int
        FROM mine m
        WHERE j.image_id = m.image_id AND j.space_id = in_space
        RETURNING 1
    )
    SELECT count(*) FROM released;
$$;
