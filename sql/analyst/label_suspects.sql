-- Which images may have a wrong label?
-- Those whose k nearest neighbours agree on another label, ordered by the share that does. It costs one search per
-- labelled image.
-- Variables:
--   label  an attribute (default category)
--   k      number of neighbours (default 7)
--   share  smallest share (default 0.7)
-- In psql: \set label subcategory \i label_suspects.sql
\if :{?label} \else \set label category \endif
\if :{?k} \else \set k 7 \endif
\if :{?share} \else \set share 0.7 \endif
SELECT g.id, g.attributes ->> :'label' AS label, v.label AS neighbors_say, round(v.share, 2) AS share, g.caption, g.uri
FROM (SELECT * FROM lookalike.gallery OFFSET 0) g  -- at first: an image without an embedding has no neighbours
CROSS JOIN LATERAL (
    SELECT n.attributes ->> :'label' AS label, count(*) / sum(count(*)) OVER () AS share
    FROM lookalike.similar(g.id, :'k', jsonb_build_object(:'label'::text, jsonb_build_object('$exists', true))) s
    JOIN lookalike.images n ON n.id = s.id
    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1
) v
WHERE g.attributes ->> :'label' <> v.label AND v.share >= :'share'
ORDER BY v.share DESC, g.id;
