-- Up to `most` searchable images, another selection for each `seed`: from a sample of the table's pages, `percent` of
-- them, so that the cost has a bound. The condition of a filter takes the place of TRUE below.
SELECT i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width, i.height, i.caption, i.attributes,
       i.created_at, i.updated_at
FROM lookalike.images i TABLESAMPLE SYSTEM (:'percent'::float4) REPEATABLE (:'seed'::int)
WHERE (/*filter*/ TRUE) AND EXISTS (SELECT FROM lookalike.active_embeddings e WHERE e.image_id = i.id)
ORDER BY hashint8extended(i.id, :'seed'::bigint)
LIMIT :'most'::bigint;
