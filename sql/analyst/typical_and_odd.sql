-- Which images of each category are the most typical, and which the oddest?
-- They are the nearest to and the farthest from the mean embedding of the category. It reads every embedding once.
-- Variables:
--   label  an attribute (default category)
--   k      how many of each (default 3)
-- In psql: \set label subcategory \set k 1 \i typical_and_odd.sql
\if :{?label} \else \set label category \endif
\if :{?k} \else \set k 3 \endif
WITH labelled AS MATERIALIZED (
    SELECT g.id, g.caption, g.attributes ->> :'label' AS label, g.embedding::vector AS embedding
    FROM lookalike.gallery g WHERE g.attributes ->> :'label' IS NOT NULL
), ranked AS (
    SELECT l.label, l.id, l.caption, l.embedding <-> m.mean AS distance,
           row_number() OVER (PARTITION BY l.label ORDER BY l.embedding <-> m.mean, l.id) AS place,
           count(*) OVER (PARTITION BY l.label) AS images
    FROM labelled l JOIN (SELECT label, avg(embedding) AS mean FROM labelled GROUP BY label) m ON m.label = l.label
)
SELECT r.label, CASE WHEN r.place <= :'k' THEN 'typical' ELSE 'odd' END AS kind, r.id, round(r.distance::numeric, 4) AS distance,
       r.caption
FROM ranked r WHERE r.place <= :'k' OR r.place > r.images - :'k'
ORDER BY r.label, r.place;
