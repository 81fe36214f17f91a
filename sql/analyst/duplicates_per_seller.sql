-- Which sellers have near-duplicates, of their own images and of others'?
-- One row per seller, the one with the most first. It costs one index search per image
-- (lookalike.near_duplicates).
-- Variables:
--   seller     the attribute with the seller's name (default seller)
--   threshold  a distance (default 0.35)
-- In psql: \set seller shop \i duplicates_per_seller.sql
\if :{?seller} \else \set seller seller \endif
\if :{?threshold} \else \set threshold 0.35 \endif
WITH member AS (
    SELECT d.group_id, d.image_id, i.attributes ->> :'seller' AS seller
    FROM lookalike.near_duplicates(:'threshold') d JOIN lookalike.images i ON i.id = d.image_id
), counted AS (
    SELECT m.*, count(*) OVER (PARTITION BY m.group_id, m.seller) AS of_seller, count(*) OVER (PARTITION BY m.group_id) AS of_all
    FROM member m
)
SELECT c.seller, count(*) AS duplicates, count(*) FILTER (WHERE c.of_seller > 1) AS of_own,
       count(*) FILTER (WHERE c.of_all > c.of_seller) AS of_others, count(DISTINCT c.group_id) AS groups
FROM counted c GROUP BY c.seller ORDER BY duplicates DESC, c.seller;
