-- Which label fits the images that have none?
-- It is the label of their k nearest labelled neighbours. Each vote weighs its cosine similarity; `confidence` is
-- the winner's share of all votes. It costs one search per unlabelled image.
-- Variables:
--   label  an attribute (default category)
--   k      number of neighbours (default 5)
-- In psql: \set label subcategory \i classify_unlabelled.sql
\if :{?label} \else \set label category \endif
\if :{?k} \else \set k 5 \endif
SELECT g.id, v.label, round(v.confidence::numeric, 2) AS confidence, v.nearest, g.caption, g.uri
FROM (SELECT * FROM lookalike.gallery OFFSET 0) g  -- at first: an image without an embedding has no neighbours
CROSS JOIN LATERAL (
    SELECT n.attributes ->> :'label' AS label, round(min(s.distance)::numeric, 4) AS nearest,
           sum(1 - s.distance ^ 2 / 2) / sum(sum(1 - s.distance ^ 2 / 2)) OVER () AS confidence
    FROM lookalike.similar(g.id, :'k', jsonb_build_object(:'label'::text, jsonb_build_object('$exists', true, '$ne', NULL))) s
    JOIN lookalike.images n ON n.id = s.id
    GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 1
) v
WHERE g.attributes ->> :'label' IS NULL
ORDER BY v.confidence DESC, g.id;
