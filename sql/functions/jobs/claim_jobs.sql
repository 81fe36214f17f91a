-- Internal: claim up to `most` due jobs of a space under the lease `claim`, the oldest first.
--
-- Two workers never get the same job. A job that is not finished when its lease ends is due again. Every claim
-- counts as an attempt.
--
-- A due job that still has a lease is suspect: the worker that claimed it has gone silent, and this image may be
-- what kills workers. Suspects are never mixed with other jobs, and come in small batches: at most 8 after the
-- first lost lease, one alone after the second. So an image that kills affects few others, and is soon the only
-- one with many attempts; the caller then records it as a failure.
CREATE OR REPLACE FUNCTION lookalike.claim_jobs(from_space smallint, claim uuid, most int, lease_seconds float8)
RETURNS TABLE (image_id bigint, uri text, attempts int, enqueued_at timestamptz, suspect boolean)
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH due AS (
        SELECT j.image_id, j.available_at, CASE WHEN j.lease IS NULL THEN 0 ELSE least(j.attempts, 2) END AS doubt
        FROM lookalike.jobs j
        WHERE j.space_id = from_space AND j.available_at <= clock_timestamp()
        ORDER BY j.available_at
        LIMIT most
        FOR UPDATE SKIP LOCKED
    ), ranked AS (
        SELECT d.image_id, d.doubt,
               first_value(d.doubt) OVER (ORDER BY d.available_at, d.image_id) AS first_doubt,
               row_number() OVER (PARTITION BY d.doubt ORDER BY d.available_at, d.image_id) AS place
        FROM due d
    ), chosen AS (
        SELECT r.image_id, r.doubt > 0 AS suspect
        FROM ranked r
        WHERE r.doubt = r.first_doubt AND r.place <= CASE r.doubt WHEN 0 THEN most WHEN 1 THEN 8 ELSE 1 END
    ), claimed AS (
        UPDATE lookalike.jobs j
        SET lease = claim, available_at = clock_timestamp() + make_interval(secs => lease_seconds),
            attempts = j.attempts + 1
        FROM chosen c
        WHERE j.image_id = c.image_id AND j.space_id = from_space
        RETURNING j.image_id, j.attempts, j.enqueued_at, c.suspect
    )
    SELECT c.image_id, i.uri, c.attempts::int, c.enqueued_at, c.suspect
    FROM claimed c JOIN lookalike.images i ON i.id = c.image_id
    ORDER BY c.enqueued_at, c.image_id;
$$;
