-- Internal: remove kept searches and recall checks that are too old, and return how many.
--
-- These are searches older than `sample_seconds` that nobody checked, searches of spaces that are not active any
-- more, and checks older than `check_seconds`.
CREATE OR REPLACE FUNCTION lookalike.forget_recall(sample_seconds float8, check_seconds float8 DEFAULT 7776000)
RETURNS bigint
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH samples AS (
        DELETE FROM lookalike.search_samples s
        WHERE s.searched_at < clock_timestamp() - make_interval(secs => sample_seconds)
           OR NOT EXISTS (SELECT FROM lookalike.embedding_spaces e WHERE e.id = s.space_id AND e.active)
        RETURNING 1
    ), checks AS (
        DELETE FROM lookalike.recall_checks c
        WHERE c.checked_at < clock_timestamp() - make_interval(secs => check_seconds)
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM samples) + (SELECT count(*) FROM checks);
$$;
