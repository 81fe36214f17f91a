-- Internal: check one kept search, record the result in lookalike.recall_checks, and forget the search.
--
-- It returns the recall. It returns NULL if nothing was to be found, if the search is no longer kept or another
-- session has it, and if it could not be checked: then it records the reason.
CREATE OR REPLACE FUNCTION lookalike.check_sample(sample_id bigint) RETURNS float8
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
DECLARE
    began timestamptz := clock_timestamp();
    sample lookalike.search_samples;
    result record;
    recalled float8;
    problem text;
BEGIN
    SELECT s.* INTO sample FROM lookalike.search_samples s WHERE s.id = sample_id FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    BEGIN
        PERFORM lookalike.hold_space(sample.space_id);
        SELECT c.* INTO result
        FROM lookalike.check_recall(sample.query, sample.k, sample.filter, sample.max_distance, sample.exclude,
                                    sample.recall, CASE WHEN sample.proven THEN 'exact' ELSE sample.strategy END) c;
        recalled := result.hits::float8 / nullif(result.expected, 0);
        INSERT INTO lookalike.recall_checks
            (space_id, source, searched_at, k, asked, plan, ef_search, passing, expected, recall, search_seconds, seconds)
        VALUES (sample.space_id, sample.source, sample.searched_at, sample.k, sample.recall, result.plan,
                result.ef_search, result.passing, result.expected, recalled, result.search_ms / 1000,
                extract(epoch FROM clock_timestamp() - began));
    EXCEPTION WHEN OTHERS THEN  -- never a timeout, nor being stopped
        problem := SQLERRM;
    END;
    IF problem IS NOT NULL THEN
        INSERT INTO lookalike.recall_checks (space_id, source, searched_at, k, asked, seconds, reason)
        VALUES (sample.space_id, sample.source, sample.searched_at, sample.k, sample.recall,
                extract(epoch FROM clock_timestamp() - began), problem);
    END IF;
    DELETE FROM lookalike.search_samples s WHERE s.id = sample_id;
    RETURN recalled;
END
$$;
