-- Internal: claim up to `most` unanswered query images of a space, which come before any job.
--
-- A claim without an answer after `lease_seconds` is free again. `waited` is the number of seconds since the
-- query.
CREATE OR REPLACE FUNCTION lookalike.claim_queries(from_space smallint, most int, lease_seconds float8)
RETURNS TABLE (sha256 bytea, image bytea, waited float8)
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH due AS (
        SELECT q.sha256
        FROM lookalike.query_images q
        WHERE q.space_id = from_space AND q.answered_at IS NULL AND q.available_at <= clock_timestamp()
        ORDER BY q.available_at
        LIMIT most
        FOR UPDATE SKIP LOCKED
    )
    UPDATE lookalike.query_images q
    SET available_at = clock_timestamp() + make_interval(secs => lease_seconds)
    FROM due
    WHERE q.sha256 = due.sha256 AND q.space_id = from_space
    RETURNING q.sha256, q.image, extract(epoch FROM clock_timestamp() - q.asked_at)::float8;
$$;
