-- Internal: forget a kept search that could not be checked, and record the reason and the seconds it took.
CREATE OR REPLACE FUNCTION lookalike.give_up_sample(sample_id bigint, reason text, seconds float8) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH gone AS (
        DELETE FROM lookalike.search_samples s WHERE s.id = sample_id RETURNING s.*
    )
    INSERT INTO lookalike.recall_checks (space_id, source, searched_at, k, asked, seconds, reason)
    SELECT g.space_id, g.source, g.searched_at, g.k, g.recall, give_up_sample.seconds, give_up_sample.reason FROM gone g;
$$;
