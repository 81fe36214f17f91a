-- What do images that look like this one cost?
-- Quartiles of the price of the k nearest images that have one, and the price of this image.
-- Variables:
--   image  an id (default: the smallest)
--   k      number of images (default 50)
-- In psql: \set image 42 \i price_of_lookalikes.sql
\if :{?image} \else
SELECT min(id) AS image FROM lookalike.gallery \gset
\endif
\if :{?k} \else \set k 50 \endif
SELECT count(*) AS priced, min(p.price) AS lowest,
       percentile_cont(0.25) WITHIN GROUP (ORDER BY p.price) AS quarter,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY p.price) AS median,
       percentile_cont(0.75) WITHIN GROUP (ORDER BY p.price) AS three_quarters, max(p.price) AS highest,
       (SELECT lookalike.attribute_numeric(o.attributes -> 'price')
        FROM lookalike.images o WHERE o.id = :'image') AS own
FROM lookalike.similar(:'image', :'k', '{"price": {"$gt": 0}}') s
JOIN lookalike.images i ON i.id = s.id,
     lookalike.attribute_numeric(i.attributes -> 'price') AS p (price);
