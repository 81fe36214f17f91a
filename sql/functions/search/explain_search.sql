-- Return how lookalike.search answers these arguments: it searches, and returns the plan in place of the rows.
--
-- The plan has the strategy and its reason, the estimates, what was scanned, whether a completing pass ran, and
-- milliseconds. The arguments are those of lookalike.search.
--
-- Example:
--     SELECT jsonb_pretty(lookalike.explain_search(lookalike.embedding_of(42), 10, '{"category": "animals"}'));
CREATE OR REPLACE FUNCTION lookalike.explain_search(
    query halfvec, k int DEFAULT 10, filter jsonb DEFAULT NULL, max_distance float8 DEFAULT NULL,
    exclude bigint[] DEFAULT NULL, recall float8 DEFAULT 0.99, ef_search int DEFAULT NULL, strategy text DEFAULT 'auto'
) RETURNS jsonb
LANGUAGE sql STABLE
AS $$
    SELECT r.plan
    FROM lookalike.search_run(query, k, filter, max_distance, exclude, recall, ef_search, strategy, true) r
$$;
