-- Stored images to search by, drawn by seed from the first million of the active space.
SELECT e.image_id FROM (SELECT a.image_id FROM lookalike.active_embeddings a LIMIT 1000000) e
WHERE lookalike.active_space_id() = :'space_id'::smallint
ORDER BY hashint8extended(e.image_id, :'seed'::bigint), e.image_id LIMIT :'most'::int;
