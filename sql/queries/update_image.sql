-- Changes an image: `uri` and `attributes` unless NULL, `caption` (which may become NULL) if `set_caption`. Returns the
-- row, in the order of records.Image.
UPDATE lookalike.images
SET uri = coalesce(:'uri'::text, uri),
    caption = CASE WHEN :'set_caption'::boolean THEN :'caption'::text ELSE caption END,
    attributes = coalesce(:'attributes'::jsonb, attributes)
WHERE id = :'id'::bigint
RETURNING id, uri, encode(sha256, 'hex') AS sha256, media_type, width, height, caption, attributes, created_at, updated_at;
