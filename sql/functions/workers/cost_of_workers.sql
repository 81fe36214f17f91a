-- What workers took, from the day `since` on (UTC; NULL: since ever): a row a space and device.
--   images     made searchable, `reused` of them without encoding; `queries`: query images answered
--   seconds    in which workers had something to do; seconds_each: of those, for an image or a query image
--   per_second how many of both a worker does in a second of work
--   claim_each, fetch_each, lookup_each, decode_each, encode_each, write_each   seconds of each stage for one of both; stages
--              run in several threads at once, so that one may exceed seconds_each
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
