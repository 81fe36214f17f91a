-- The ANN indexes of one space's table: name, validity, bytes.
SELECT c.relname::text, i.indisvalid, pg_relation_size(c.oid)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = format('lookalike.%I', :'table_name'::text)::regclass AND a.amname IN ('hnsw', 'ivfflat')
ORDER BY c.relname;
