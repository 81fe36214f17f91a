-- ANN indexes of all spaces, on embeddings or on candidates.
--
-- It includes invalid ones that a failed build left, also those of REINDEX CONCURRENTLY (_ccnew and _ccold).
--
-- Columns:
--   space_id      the embedding space
--   space         its name
--   space_active  whether the space is active
--   name          name of the index
--   valid         whether searches may use it
--   kind          hnsw or ivfflat
--   bytes         size of the index
--   options       storage parameters
--   scans         how often it was used
--   building      whether a session is building an index on that table now
--   index_oid     oid of the index
--   table_oid     oid of its table
--   table_name    name of its table
--   serving       whether the searches of the space use that table
--
-- Example:
--     SELECT space, name, kind, valid, building, pg_size_pretty(bytes) FROM lookalike.ann_indexes;
CREATE OR REPLACE VIEW lookalike.ann_indexes AS
SELECT s.id AS space_id, s.name AS space, s.active AS space_active, c.relname::text AS name, i.indisvalid AS valid,
       a.amname::text AS kind, pg_relation_size(c.oid) AS bytes, c.reloptions AS options, u.idx_scan AS scans,
       EXISTS (SELECT FROM pg_stat_progress_create_index p
               WHERE p.relid = i.indrelid AND p.datname = current_database()) AS building,
       c.oid AS index_oid, i.indrelid AS table_oid, w.table_name,
       w.table_name = coalesce('candidates_' || (s.index_options ->> 'transform'), s.table_name) AS serving
FROM lookalike.embedding_spaces s
CROSS JOIN LATERAL (
    SELECT s.table_name
    UNION ALL
    SELECT 'candidates_' || t.id FROM lookalike.transforms t WHERE t.space_id = s.id
) w
JOIN pg_index i ON i.indrelid = to_regclass(format('lookalike.%I', w.table_name))
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam AND a.amname IN ('hnsw', 'ivfflat')
LEFT JOIN pg_stat_user_indexes u ON u.indexrelid = c.oid;
