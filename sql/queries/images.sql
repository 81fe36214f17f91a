-- The images of these ids, in the order of records.Image; ids without an image are passed over.
SELECT i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width, i.height, i.caption, i.attributes,
       i.created_at, i.updated_at
FROM lookalike.images i
WHERE i.id = ANY (:'ids'::bigint[]);
