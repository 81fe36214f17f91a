-- Which images look like this one and cost less?
-- The filter is part of the search, so the answer has k rows if k rows match.
-- Variables:
--   image  an id (default: the smallest)
--   below  a price (default 100)
--   k      number of images (default 10)
-- In psql: \set image 42 \set below 50 \i near_and_cheap.sql
\if :{?image} \else
SELECT min(id) AS image FROM lookalike.gallery \gset
\endif
\if :{?below} \else \set below 100 \endif
\if :{?k} \else \set k 10 \endif
SELECT s.id, round(s.distance::numeric, 4) AS distance, i.attributes -> 'price' AS price, i.caption, i.uri
FROM lookalike.similar(:'image', :'k', jsonb_build_object('price', jsonb_build_object('$lt', :'below'::numeric))) s
JOIN lookalike.images i ON i.id = s.id
ORDER BY s.distance, s.id;
