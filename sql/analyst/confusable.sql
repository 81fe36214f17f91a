-- Which categories look alike?
-- For each pair of labels: the share of the k nearest neighbours of the first label's images that have the second
-- one, the most confused first. It costs one search per labelled image.
-- Variables:
--   label  an attribute (default category)
--   k      number of neighbours (default 10)
-- In psql: \set label subcategory \i confusable.sql
\if :{?label} \else \set label category \endif
\if :{?k} \else \set k 10 \endif
WITH pair AS (
    SELECT g.attributes ->> :'label' AS label, n.attributes ->> :'label' AS neighbor
    FROM (SELECT * FROM lookalike.gallery OFFSET 0) g  -- at first: an image without an embedding has no neighbours
    CROSS JOIN LATERAL lookalike.similar(g.id, :'k') s
    JOIN lookalike.images n ON n.id = s.id
    WHERE g.attributes ->> :'label' IS NOT NULL AND n.attributes ->> :'label' IS NOT NULL
), counted AS (
    SELECT p.label, p.neighbor, count(*) AS neighbors, count(*) / sum(count(*)) OVER (PARTITION BY p.label) AS share
    FROM pair p GROUP BY 1, 2
)
SELECT c.label, c.neighbor, c.neighbors, round(c.share, 3) AS share
FROM counted c WHERE c.label <> c.neighbor ORDER BY c.share DESC, 1, 2;
