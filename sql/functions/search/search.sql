-- The k images nearest to a query embedding: nearest first, ties by id, always min(k, matching rows) of them.
--   query         an embedding of the active space; scaled to unit length, as the stored ones are
--   k             how many, 1 to 10,000
--   filter        conditions in the JSON filter grammar (lookalike.filter_condition); NULL for none
--   max_distance  leaves out what is farther away (L2 between unit vectors, 0 to 2)
--   exclude       ids to leave out
--   recall        share of the true neighbours that must be found; 1 searches exactly
--   ef_search     overrides the measured choice of hnsw.ef_search, which is otherwise a function of k and recall
--   strategy      'auto', or 'exact' or 'index' to force one
-- The plan behind the answer: lookalike.explain_search, with the same arguments. No search_path of its own, so that
-- the planner can inline it.
CREATE OR REPLACE FUNCTION lookalike.search(
    query halfvec, k int DEFAULT 10, filter jsonb DEFAULT NULL, max_distance float8 DEFAULT NULL,
    exclude bigint[] DEFAULT NULL, recall float8 DEFAULT 0.99, ef_search int DEFAULT NULL, strategy text DEFAULT 'auto'
) RETURNS TABLE (id bigint, distance float8)
LANGUAGE sql STABLE
AS $$
    SELECT u.id, u.distance
    FROM lookalike.search_run(query, k, filter, max_distance, exclude, recall, ef_search, strategy, false) r,
         unnest(r.ids, r.distances) AS u (id, distance)
$$;
