-- The indexes of a space's table that a build, or REINDEX CONCURRENTLY (_ccnew, _ccold), left invalid. Every write still
-- pays for them. Asked under the lock of builds, while nobody builds.
SELECT c.relname::text
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = to_regclass(format('lookalike.%I', :'table_name'::text)) AND NOT i.indisvalid
  AND (a.amname IN ('hnsw', 'ivfflat') OR c.relname ~ '_cc(new|old)[0-9]*$')
ORDER BY c.relname;
