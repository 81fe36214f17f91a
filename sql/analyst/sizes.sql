-- Which tables and indexes take the space on disk?
-- Those of schema lookalike, the largest first. `rows` is as ANALYZE last counted, `dead` are rows dead since the
-- last vacuum, and `scans` is how often an index was used.
SELECT c.relname AS relation, CASE c.relkind WHEN 'i' THEN 'index on ' || t.relname ELSE 'table' END AS kind, m.amname AS method,
       pg_size_pretty(pg_relation_size(c.oid)) AS size, pg_relation_size(c.oid) AS bytes,
       nullif(c.reltuples, -1)::bigint AS rows, s.n_dead_tup AS dead, coalesce(u.idx_scan, s.seq_scan) AS scans
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am m ON m.oid = c.relam
LEFT JOIN pg_index x ON x.indexrelid = c.oid
LEFT JOIN pg_class t ON t.oid = x.indrelid
LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
LEFT JOIN pg_stat_user_indexes u ON u.indexrelid = c.oid
WHERE n.nspname = 'lookalike' AND c.relkind IN ('r', 'i')
ORDER BY bytes DESC, relation;
