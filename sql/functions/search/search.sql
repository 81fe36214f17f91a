-- Return the k images nearest to a query embedding, nearest first, ties by id.
--
-- The answer always has min(k, matching rows) rows.
--
-- Arguments:
--   query         an embedding of the active space; it is scaled to unit length
--   k             how many, 1 to 10,000
--   filter        conditions in the JSON filter grammar; NULL for none
--   max_distance  leaves out images farther away (L2 between unit vectors, 0 to 2)
--   exclude       ids to leave out
--   recall        share of the true neighbours to find; 1 searches exactly
--   ef_search     replaces the default hnsw.ef_search, which depends on k and recall
--   strategy      'auto', or 'exact' or 'index' to force one
--
-- Raises 22023 if an argument is not valid, and 55000 if no space is active. lookalike.explain_search returns the
-- plan of the same search.
--
-- Example:
--     SELECT s.id, s.distance, i.uri
--     FROM lookalike.search(lookalike.embedding_of(42), 10, '{"category": "animals"}') s
--     JOIN lookalike.images i USING (id) ORDER BY s.distance, s.id;

-- It has no search_path of its own, so that the planner can inline it.
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
