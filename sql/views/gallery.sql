-- Every searchable image with its embedding in the active space: the one relation an analyst needs.
CREATE OR REPLACE VIEW lookalike.gallery AS
SELECT i.id, i.uri, i.sha256, i.media_type, i.width, i.height, i.caption, i.attributes, i.created_at, i.updated_at,
       e.embedding
FROM lookalike.images i
JOIN lookalike.active_embeddings e ON e.image_id = i.id;
