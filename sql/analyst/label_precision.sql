-- How well does the active space place images with the same label together?
-- The leave-one-out precision at k: the share of the k nearest neighbours of each labelled image that have its
-- label. It is exact and costs one exact search per image.
-- Variables:
--   label  an attribute (default category)
--   k      number of neighbours (default 5)
-- In psql: \set label subcategory \i label_precision.sql
\if :{?label} \else \set label category \endif
\if :{?k} \else \set k 5 \endif
SELECT :'label' AS label, count(DISTINCT g.id) AS images,
       avg((n.attributes ->> :'label' IS NOT DISTINCT FROM g.attributes ->> :'label')::int)::float8 AS precision_at_k
FROM (SELECT * FROM lookalike.gallery OFFSET 0) g  -- at first: an image without an embedding has no neighbours
CROSS JOIN LATERAL lookalike.similar(g.id, :'k'::int, strategy => 'exact') s
JOIN lookalike.images n ON n.id = s.id
WHERE g.attributes ->> :'label' IS NOT NULL;
