-- How fresh is the search? A row a space and period (the last minute, five minutes, hour): images made searchable, how
-- many a second, of these `reused` (the bytes had been embedded under another image), `failed`; seconds from the insert
-- of an image (or its change) to its committed embedding at p50, p95 and p99; the same for query images, from question
-- to answer. Times are NULL where there was nothing.
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
