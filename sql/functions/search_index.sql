-- The k nearest rows by the HNSW index, iteratively until k pass or the scan ends. Private to lookalike.search_run.
-- The settings hold inside this function only. Without sequential scans, because with a parameter for LIMIT the planner
-- expects to return a tenth of the table and would read all of it.
CREATE OR REPLACE FUNCTION lookalike.search_index(
    query halfvec, k int, condition text, exclude bigint[], ef int, OUT ids bigint[], OUT distances float8[]
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan SET hnsw.iterative_scan = relaxed_order SET hnsw.ef_search = 100
SET hnsw.scan_mem_multiplier = 8
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM set_config('hnsw.ef_search', ef::text, true);
    IF condition IS NULL THEN
        SELECT array_agg(n.image_id ORDER BY n.distance, n.image_id),
               array_agg(n.distance ORDER BY n.distance, n.image_id) INTO ids, distances
        FROM (SELECT e.image_id, e.embedding <-> query AS distance
              FROM lookalike.active_embeddings e
              WHERE e.image_id <> ALL (exclude)
              ORDER BY e.embedding <-> query LIMIT k) n;
    ELSE
        EXECUTE format($sql$
            WITH nearest AS MATERIALIZED (
                SELECT e.image_id, e.distance
                FROM (SELECT e.image_id, e.embedding <-> $1 AS distance
                      FROM lookalike.active_embeddings e ORDER BY e.embedding <-> $1 LIMIT 20000) e
                WHERE e.image_id <> ALL ($3)
                  AND (SELECT %s FROM lookalike.images i WHERE i.id = e.image_id)
                LIMIT $2
            )
            SELECT array_agg(n.image_id ORDER BY n.distance, n.image_id),
                   array_agg(n.distance ORDER BY n.distance, n.image_id) FROM nearest n
            $sql$, condition)
        INTO ids, distances USING query, k, exclude;
    END IF;
END
$$;
