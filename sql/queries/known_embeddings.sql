-- The embeddings that a space has of files with these contents. See lookalike.known_embeddings.
SELECT k.sha256, k.embedding
FROM lookalike.known_embeddings(:'space_id'::smallint, :'hashes'::bytea[]) k;
