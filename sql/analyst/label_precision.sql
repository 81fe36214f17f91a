-- How well does the active space place images with the same label together?
-- The leave-one-out precision at k: the share of the k nearest neighbours of each labelled image that have its
-- label. It is exact and costs one exact search per image.
-- Variables:
--   label  an attribute
--   k      number of neighbours
-- In psql: \set label subcategory \set k 5 \i label_precision.sql
SELECT :'label' AS label, count(DISTINCT g.id) AS images,
       avg((n.attributes ->> :'label' IS NOT DISTINCT FROM g.attributes ->> :'label')::int)::float8 AS precision_at_k
FROM (SELECT * FROM lookalike.gallery OFFSET 0) g  -- at first: an image without an embedding has no neighbours
CROSS JOIN LATERAL lookalike.similar(g.id, :'k'::int, strategy => 'exact') s
JOIN lookalike.images n ON n.id = s.id
WHERE g.attributes ->> :'label' IS NOT NULL;
