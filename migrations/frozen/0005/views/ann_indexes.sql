-- The ANN indexes of all spaces' tables, valid or left over by a build that failed (REINDEX CONCURRENTLY's _ccnew and _ccold
-- too); `building` is whether a session is at work on that table now.
CREATE OR REPLACE VIEW lookalike.ann_indexes AS
SELECT s.id AS space_id, s.name AS space, s.active AS space_active, c.relname::text AS name, i.indisvalid AS valid,
       a.amname::text AS kind, pg_relation_size(c.oid) AS bytes, c.reloptions AS options, u.idx_scan AS scans,
       EXISTS (SELECT FROM pg_stat_progress_create_index p
               WHERE p.relid = i.indrelid AND p.datname = current_database()) AS building,
       c.oid AS index_oid, i.indrelid AS table_oid
FROM lookalike.embedding_spaces s
JOIN pg_index i ON i.indrelid = to_regclass(format('lookalike.%I', s.table_name))
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam AND a.amname IN ('hnsw', 'ivfflat')
LEFT JOIN pg_stat_user_indexes u ON u.indexrelid = c.oid;
