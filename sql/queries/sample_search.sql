-- Keeps a search to be checked later. See lookalike.sample_search.
SELECT lookalike.sample_search(
    :'query'::halfvec, :'k'::int, :'filter'::jsonb, :'max_distance'::float8, :'exclude'::bigint[],
    coalesce(:'recall'::float8, 0.99), coalesce(:'strategy'::text, 'auto'), image_id => :'image_id'::bigint,
    proven => :'proven'::boolean, source => :'source'::text, space => :'space'::text);
