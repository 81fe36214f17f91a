-- Inserts an image; what describes its bytes may be NULL, and is then filled in by the worker. Returns the row, in the
-- order of records.Image.
INSERT INTO lookalike.images (uri, caption, attributes, sha256, media_type, width, height)
VALUES (:'uri', :'caption', :'attributes'::jsonb, decode(:'sha', 'hex'), :'media_type', :'width'::int, :'height'::int)
RETURNING id, uri, encode(sha256, 'hex') AS sha256, media_type, width, height, caption, attributes, created_at, updated_at;
