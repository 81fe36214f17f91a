-- Deletes an image, and with it its embeddings, jobs and failures. Returns the row that was, in the order of
-- records.Image; no row where it is unknown.
DELETE FROM lookalike.images
WHERE id = :'id'::bigint
RETURNING id, uri, encode(sha256, 'hex') AS sha256, media_type, width, height, caption, attributes, created_at, updated_at;
