-- Internal: return hnsw.ef_search for k neighbours at a recall; lookalike.search_run calls it.
--
-- The numbers were measured on 200,000 real embeddings, as the project's decisions describe. A space's
-- index_options {"ef_search": n} replace them.
CREATE OR REPLACE FUNCTION lookalike.search_ef(k int, recall float8) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN recall > 0.99 THEN 400 + 4 * k
            WHEN recall > 0.95 THEN 190 + 2 * k
            WHEN recall > 0.90 THEN 100 + k
            ELSE 40 + k END;
