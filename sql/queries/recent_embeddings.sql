-- The embeddings of the active space's latest images, `most` of them.
SELECT e.embedding FROM lookalike.active_embeddings e ORDER BY e.image_id DESC LIMIT :'most'::int;
