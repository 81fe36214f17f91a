-- What may keep searches of the active space from finding all, or make them slow, in the order of app.index.health.Evidence:
-- rows and dead rows, the rows that the index was built of (NULL: not known), bytes of index and memory.
SELECT s.name AS space, n.rows, lookalike.dead_about(s.table_name, n.rows) AS dead,
       x.built_rows, x.built_at,
       coalesce(x.bytes, 0) AS index_bytes,
       pg_size_bytes(current_setting('shared_buffers')) AS shared_buffers,
       pg_size_bytes(current_setting('effective_cache_size')) AS cache,
       coalesce((s.index_options ->> 'search_depth')::float8, 1) AS search_depth
FROM lookalike.embedding_spaces s
CROSS JOIN LATERAL (SELECT lookalike.count_about(s.table_name, 10000) AS rows OFFSET 0) n
LEFT JOIN LATERAL (SELECT sum(a.bytes)::bigint AS bytes, max(b.at) AS built_at, max(b.rows) AS built_rows
                   FROM lookalike.ann_indexes a CROSS JOIN LATERAL lookalike.index_built(a.index_oid) b
                   WHERE a.space_id = s.id AND a.valid) x ON true
WHERE s.active;
