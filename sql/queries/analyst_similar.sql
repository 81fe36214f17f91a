-- The images most like a stored one, nearest first; filter, greatest distance, ids to leave out: or NULL; for psql.
SELECT i.id, round(s.distance::numeric, 4) AS distance, i.caption, i.uri
FROM lookalike.similar(:'image_id'::bigint, k => :'k'::int, filter => :'filter'::jsonb,
                       max_distance => :'max_distance'::float8, exclude => :'exclude'::bigint[]) s
JOIN lookalike.images i ON i.id = s.id
ORDER BY s.distance, s.id;
