-- Claims up to `most` due jobs of one space under the lease `claim`, oldest first; two workers never get the same job.
-- A job not finished when its lease ends becomes due again by itself. Every claim counts as an attempt, so that an
-- image that takes its worker down is found out: the caller parks a job whose `attempts` have grown too many.
CREATE OR REPLACE FUNCTION lookalike.claim_jobs(from_space smallint, claim uuid, most int, lease_seconds float8)
RETURNS TABLE (image_id bigint, uri text, attempts int, enqueued_at timestamptz)
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH due AS (
        SELECT j.image_id
        FROM lookalike.jobs j
        WHERE j.space_id = from_space AND j.available_at <= clock_timestamp()
        ORDER BY j.available_at
        LIMIT most
        FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE lookalike.jobs j
        SET lease = claim, available_at = clock_timestamp() + make_interval(secs => lease_seconds),
            attempts = j.attempts + 1
        FROM due
        WHERE j.image_id = due.image_id AND j.space_id = from_space
        RETURNING j.image_id, j.attempts, j.enqueued_at
    )
    SELECT c.image_id, i.uri, c.attempts::int, c.enqueued_at
    FROM claimed c JOIN lookalike.images i ON i.id = c.image_id
    ORDER BY c.enqueued_at, c.image_id;
$$;
