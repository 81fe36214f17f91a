-- Do new images look different from earlier ones?
-- `drift` is the distance between the mean embeddings of the last `days` days and of as many days before, by label
-- and over all; 0 is none. Compare it with `spread`, the mean distance of the earlier images from their own mean.
-- It reads the embeddings of both periods.
-- Variables:
--   days   length of a period (default 30)
--   label  an attribute (default category)
-- In psql: \set days 7 \i drift.sql
\if :{?days} \else \set days 30 \endif
\if :{?label} \else \set label category \endif
WITH recent AS MATERIALIZED (
    SELECT coalesce(g.attributes ->> :'label', '(none)') AS label, g.embedding::vector AS embedding,
           g.created_at >= now() - make_interval(days => :'days') AS new
    FROM lookalike.gallery g WHERE g.created_at >= now() - make_interval(days => 2 * :'days'::int)
), labelled AS (
    SELECT * FROM recent UNION ALL SELECT '(all)', r.embedding, r.new FROM recent r
), means AS (
    SELECT l.label, count(*) FILTER (WHERE l.new) AS new_images, count(*) FILTER (WHERE NOT l.new) AS old_images,
           avg(l.embedding) FILTER (WHERE l.new) AS new_mean, avg(l.embedding) FILTER (WHERE NOT l.new) AS old_mean
    FROM labelled l GROUP BY l.label
)
SELECT m.label, m.new_images, m.old_images, round((m.new_mean <-> m.old_mean)::numeric, 4) AS drift,
       round((SELECT avg(l.embedding <-> m.old_mean) FROM labelled l WHERE l.label = m.label AND NOT l.new)::numeric, 4) AS spread
FROM means m ORDER BY drift DESC NULLS LAST, m.label;
