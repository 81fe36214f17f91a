-- Searchable images with their embedding in the active space.
--
-- Columns:
--   id          the image
--   uri         path or URL of the file
--   sha256      of the bytes; NULL until a worker has read them
--   media_type  of the bytes; NULL until a worker has read them
--   width       pixels; NULL until a worker has read the file
--   height      pixels; NULL until a worker has read the file
--   caption     text of your own
--   attributes  metadata of your own, a JSON object
--   created_at  time of the insert
--   updated_at  time of the last change
--   embedding   unit-length vector in the active space
--
-- Example:
--     SELECT id, uri, embedding <-> lookalike.embedding_of(42) AS distance
--     FROM lookalike.gallery
--     WHERE attributes @> '{"category": "animals"}'
--     ORDER BY embedding <-> lookalike.embedding_of(42) LIMIT 10;
CREATE OR REPLACE VIEW lookalike.gallery AS
SELECT i.id, i.uri, i.sha256, i.media_type, i.width, i.height, i.caption, i.attributes, i.created_at, i.updated_at,
       e.embedding
FROM lookalike.images i
JOIN lookalike.active_embeddings e ON e.image_id = i.id;
