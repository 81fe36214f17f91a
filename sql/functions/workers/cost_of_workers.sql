-- Return the work and time of workers since a day, one row per space and device.
--
-- Arguments:
--   since  first day, in UTC; NULL for all
--
-- Columns:
--   space_id      the embedding space
--   space         its name
--   device        device of the workers
--   images        images made searchable
--   reused        how many of these needed no encoding
--   queries       query images answered
--   seconds       seconds in which workers had something to do
--   seconds_each  seconds for one image or query image
--   per_second    images and query images per second of work
--   claim_each    seconds of this stage for one of both; stages run in several threads, so one may exceed
--                 seconds_each
--   fetch_each    likewise
--   lookup_each   likewise
--   decode_each   likewise
--   encode_each   likewise
--   write_each    likewise
--   first_day     first day counted
--   last_day      last day counted
--
-- Example:
--     SELECT space, device, images, per_second, encode_each FROM lookalike.cost_of_workers(current_date - 30);
CREATE OR REPLACE FUNCTION lookalike.cost_of_workers(since date DEFAULT NULL) RETURNS TABLE (
    space_id smallint, space text, device text, images bigint, reused bigint, queries bigint, seconds float8,
    seconds_each float8, per_second float8, claim_each float8, fetch_each float8, lookup_each float8, decode_each float8,
    encode_each float8, write_each float8, first_day date, last_day date
)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    WITH spent AS (
        SELECT c.space_id, c.device, c.measure, sum(c.count)::bigint AS count, sum(c.seconds) AS seconds, min(c.day) AS first_day,
               max(c.day) AS last_day
        FROM lookalike.worker_costs c
        WHERE c.day >= coalesce(since, '-infinity')
        GROUP BY c.space_id, c.device, c.measure
    ), wide AS (
        SELECT p.space_id, p.device, coalesce(sum(p.count) FILTER (WHERE p.measure = 'searchable'), 0)::bigint AS images,
               coalesce(sum(p.count) FILTER (WHERE p.measure = 'reused'), 0)::bigint AS reused,
               coalesce(sum(p.count) FILTER (WHERE p.measure = 'query'), 0)::bigint AS queries,
               nullif(sum(p.count) FILTER (WHERE p.measure IN ('searchable', 'query')), 0)::float8 AS done,
               jsonb_object_agg(p.measure, p.seconds) AS seconds, min(p.first_day) AS first_day, max(p.last_day) AS last_day
        FROM spent p
        GROUP BY p.space_id, p.device
    )
    SELECT w.space_id, s.name, w.device, w.images, w.reused, w.queries, coalesce((w.seconds ->> 'busy')::float8, 0),
           (w.seconds ->> 'busy')::float8 / w.done, w.done / nullif((w.seconds ->> 'busy')::float8, 0),
           (w.seconds ->> 'claim')::float8 / w.done, (w.seconds ->> 'fetch')::float8 / w.done,
           (w.seconds ->> 'lookup')::float8 / w.done, (w.seconds ->> 'decode')::float8 / w.done,
           (w.seconds ->> 'encode')::float8 / w.done, (w.seconds ->> 'write')::float8 / w.done, w.first_day, w.last_day
    FROM wide w JOIN lookalike.embedding_spaces s ON s.id = w.space_id
    ORDER BY s.active DESC, s.id, w.device;
$$;
