-- What the embeddings of a space take on the disk with their primary key, without ANN indexes and candidates.
SELECT (pg_table_size(t.oid) + coalesce(
            (SELECT sum(pg_relation_size(i.indexrelid)) FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary), 0)
       )::bigint
FROM lookalike.embedding_spaces s, LATERAL (SELECT to_regclass(format('lookalike.%I', s.table_name)) AS oid) t
WHERE s.id = :'space_id'::smallint;
