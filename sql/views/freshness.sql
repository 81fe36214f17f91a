-- How fresh the search is, one row per space and period: the last minute, five minutes, hour.
--
-- Times are in seconds, and NULL if nothing happened.
--
-- Columns:
--   space_id            the embedding space
--   space               its name
--   active              whether the space is active
--   period              the last minute, five minutes or hour
--   images              images made searchable
--   images_per_second   images per second
--   reused              images whose bytes had been embedded for another image
--   failed              images that failed
--   searchable_p50      median time from the insert or change of an image to its committed embedding
--   searchable_p95      the same, 95th percentile
--   searchable_p99      the same, 99th percentile
--   queries             query images answered
--   queries_per_second  query images per second
--   query_p50           median time from a query image to its answer
--   query_p95           the same, 95th percentile
--   query_p99           the same, 99th percentile
--
-- Example:
--     SELECT space, period, images, searchable_p50, searchable_p95 FROM lookalike.freshness WHERE active;
CREATE OR REPLACE VIEW lookalike.freshness AS
SELECT s.id AS space_id, s.name AS space, s.active, p.period,
       coalesce(max(l.count) FILTER (WHERE l.measure = 'searchable'), 0) AS images,
       coalesce(max(l.per_second) FILTER (WHERE l.measure = 'searchable'), 0) AS images_per_second,
       coalesce(max(l.count) FILTER (WHERE l.measure = 'reused'), 0) AS reused,
       coalesce(max(l.count) FILTER (WHERE l.measure = 'failed'), 0) AS failed,
       max(l.p50) FILTER (WHERE l.measure = 'searchable') AS searchable_p50,
       max(l.p95) FILTER (WHERE l.measure = 'searchable') AS searchable_p95,
       max(l.p99) FILTER (WHERE l.measure = 'searchable') AS searchable_p99,
       coalesce(max(l.count) FILTER (WHERE l.measure = 'query'), 0) AS queries,
       coalesce(max(l.per_second) FILTER (WHERE l.measure = 'query'), 0) AS queries_per_second,
       max(l.p50) FILTER (WHERE l.measure = 'query') AS query_p50,
       max(l.p95) FILTER (WHERE l.measure = 'query') AS query_p95,
       max(l.p99) FILTER (WHERE l.measure = 'query') AS query_p99
FROM lookalike.embedding_spaces s
CROSS JOIN (VALUES (interval '1 minute'), (interval '5 minutes'), (interval '1 hour')) AS p (period)
-- The stages of workers are not looked at here, nor are their quantiles computed.
LEFT JOIN lookalike.latency_status l
    ON l.space_id = s.id AND l.period = p.period AND l.measure IN ('searchable', 'reused', 'failed', 'query')
GROUP BY s.id, s.name, s.active, p.period;
