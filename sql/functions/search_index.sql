-- The k nearest rows by the HNSW index, without a filter: one static statement, whose plan is cached.
-- Private to lookalike.search_run. The settings hold inside this function only. Without sorting, because the planner
-- expects a parameter for LIMIT to ask for a tenth of the table, and would read and sort all of it.
CREATE OR REPLACE FUNCTION lookalike.search_index(
    query halfvec, k int, exclude bigint[], ef int, OUT ids bigint[], OUT distances float8[]
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off SET enable_sort = off
SET plan_cache_mode = force_generic_plan SET hnsw.iterative_scan = relaxed_order SET hnsw.ef_search = 100
SET hnsw.max_scan_tuples = 1000000 SET hnsw.scan_mem_multiplier = 16
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM set_config('hnsw.ef_search', ef::text, true);
    SELECT array_agg(n.image_id ORDER BY n.distance, n.image_id),
           array_agg(n.distance ORDER BY n.distance, n.image_id) INTO ids, distances
    FROM (SELECT e.image_id, e.embedding <-> query AS distance
          FROM lookalike.active_embeddings e
          WHERE e.image_id <> ALL (exclude)
          ORDER BY e.embedding <-> query LIMIT k) n;
END
$$;
