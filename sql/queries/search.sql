-- A search with its results' metadata, nearest first, by an embedding or by a stored image (the other one NULL); see
-- lookalike.search for the arguments. `in_space`: the id of the space that the embedding was made in, or NULL; see
-- lookalike.hold_space. A search that found nothing returns one row, with the space and the plan alone.
SELECT s.name AS space, r.plan, u.distance, i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width,
       i.height, i.caption, i.attributes, i.created_at, i.updated_at
FROM lookalike.hold_space(:'in_space'::smallint) s
CROSS JOIN lookalike.search_run(
    coalesce(:'query'::halfvec, lookalike.embedding_of(:'image_id'::bigint)), :'k'::int, :'filter'::jsonb,
    :'max_distance'::float8, array_remove(:'exclude'::bigint[] || :'image_id'::bigint, NULL), coalesce(:'recall'::float8, 0.99),
    :'ef_search'::int, coalesce(:'strategy'::text, 'auto'), :'explain'::boolean) r
LEFT JOIN LATERAL unnest(r.ids, r.distances) AS u (id, distance) ON true
LEFT JOIN lookalike.images i ON i.id = u.id
ORDER BY u.distance, u.id;
