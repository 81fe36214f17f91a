-- Up to `most` searchable images, the latest first. The condition of a filter takes the place of TRUE below.
SELECT i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width, i.height, i.caption, i.attributes,
       i.created_at, i.updated_at
FROM lookalike.images i
WHERE (/*filter*/ TRUE) AND EXISTS (SELECT FROM lookalike.active_embeddings e WHERE e.image_id = i.id)
ORDER BY i.id DESC
LIMIT :'most'::bigint;
