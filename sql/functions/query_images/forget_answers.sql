-- Internal: remove query images older than `age_seconds`, answered or not, and return how many.
CREATE OR REPLACE FUNCTION lookalike.forget_answers(age_seconds float8) RETURNS bigint
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH gone AS (
        DELETE FROM lookalike.query_images q
        WHERE q.asked_at < clock_timestamp() - make_interval(secs => age_seconds)
        RETURNING 1
    )
    SELECT count(*) FROM gone;
$$;
