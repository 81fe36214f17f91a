-- How many of the images are searchable in each space?
-- `missing` are neither embedded, queued nor failed. Counts stop at 100,000, as in lookalike.space_status.
SELECT s.name AS space, s.active, n.images, s.embedded, s.queued, s.failed,
       greatest(n.images - s.embedded - s.queued - s.failed, 0) AS missing,
       round(100.0 * s.embedded / nullif(n.images, 0), 1) AS percent, s.index_name, s.index_valid
FROM lookalike.space_status s, lookalike.count_up_to('images', 100000) AS n (images)
ORDER BY s.active DESC, s.name;
