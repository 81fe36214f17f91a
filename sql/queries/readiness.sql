-- Of an embedding space: how many workers are alive, and whether its index is valid (NULL: there is none).
SELECT lookalike.live_workers(s.id) AS live_workers,
       (SELECT bool_or(i.indisvalid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = format('lookalike.%I', s.table_name)::regclass AND a.amname IN ('hnsw', 'ivfflat')) AS index_valid,
       lookalike.count_up_to(s.table_name, :'enough'::int) >= :'enough'::int AS wants_index
FROM lookalike.embedding_spaces s WHERE s.id = :'space_id'::smallint;
