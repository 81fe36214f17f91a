-- Checks one kept search (lookalike.check_recall), writes down what came of it in lookalike.recall_checks and forgets the
-- search, its query vector with it. Returns the recall; NULL where there was nothing to find, where the search is kept no
-- more or another session has it in hand, and where it could not be checked: then the reason is written down.
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
