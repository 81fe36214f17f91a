-- Whether a space lacks an ANN index though it holds at least `min_rows` embeddings, and its index options ask for one.
SELECT s.index_options ->> 'kind' = 'hnsw'
   AND lookalike.count_up_to(s.table_name, :'min_rows'::bigint) >= :'min_rows'::bigint
   AND NOT EXISTS (
       SELECT FROM pg_index i
       JOIN pg_class c ON c.oid = i.indexrelid
       JOIN pg_am a ON a.oid = c.relam
       WHERE i.indrelid = format('lookalike.%I', s.table_name)::regclass AND i.indisvalid
         AND a.amname IN ('hnsw', 'ivfflat'))
FROM lookalike.embedding_spaces s
WHERE s.id = :'space_id'::smallint;
