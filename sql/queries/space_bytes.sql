-- Bytes of the embeddings of a space, rows and indexes, and how many rows there are: counted to 100,000, estimated beyond.
SELECT pg_total_relation_size(format('lookalike.%I', s.table_name)::regclass) AS bytes,
       lookalike.count_about(s.table_name, 100000) AS rows
FROM lookalike.embedding_spaces s WHERE s.name = :'space';
