-- A page of the images that pass a filter, by id; see lookalike.list_images. In the order of records.Image.
SELECT i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width, i.height, i.caption, i.attributes,
       i.created_at, i.updated_at
FROM lookalike.list_images(:'filter'::jsonb, :'after_id'::bigint, :'max_rows'::int) l
JOIN lookalike.images i ON i.id = l
ORDER BY i.id;
