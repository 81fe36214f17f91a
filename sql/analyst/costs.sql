-- What does an image cost, by space and device?
-- Seconds of a worker for one image by stage, the price of embedding a million images, and the price of storing a
-- million for a month.
-- Variables:
--   hour      price of a worker's hour (default 1)
--   gb_month  price of a gigabyte for a month (default 0.10)
\if :{?hour} \else \set hour 1.0 \endif
\if :{?gb_month} \else \set gb_month 0.10 \endif
SELECT s.name AS space, c.device, c.images, c.queries, round(c.per_second::numeric, 1) AS per_second,
       round(c.seconds_each::numeric * 1000, 2) AS ms_each, round(c.fetch_each::numeric * 1000, 2) AS fetch_ms,
       round(c.decode_each::numeric * 1000, 2) AS decode_ms, round(c.encode_each::numeric * 1000, 2) AS encode_ms,
       round((c.seconds_each * 1e6 / 3600 * :'hour'::float8)::numeric, 2) AS embedding_a_million,
       round(b.bytes_per_image::numeric) AS bytes_per_image,
       round((b.bytes_per_image * 1e6 / 1e9 * :'gb_month'::float8)::numeric, 2) AS a_million_a_month
FROM lookalike.embedding_spaces s
LEFT JOIN lookalike.cost_of_workers() c ON c.space_id = s.id
CROSS JOIN LATERAL (
    SELECT sum(p.bytes_per_image) AS bytes_per_image
    FROM lookalike.storage_parts p WHERE p.space_id = s.id OR p.space_id IS NULL) b
ORDER BY s.active DESC, s.id, c.device;
