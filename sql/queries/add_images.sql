-- Inserts images, in one statement; the arrays run in parallel. A uri that is there already, or comes twice, is passed
-- over. Returns the rows that were made, in the order of records.Image.
INSERT INTO lookalike.images (uri, caption, attributes)
SELECT g.uri, g.caption, g.attributes
FROM unnest(:'uris'::text[], :'captions'::text[], :'attributes'::jsonb[]) WITH ORDINALITY AS g (uri, caption, attributes, n)
ORDER BY g.n
ON CONFLICT (uri) DO NOTHING
RETURNING id, uri, encode(sha256, 'hex') AS sha256, media_type, width, height, caption, attributes, created_at, updated_at;
