-- Recent durations, one row per space, measure and period: the last minute, five minutes, hour.
--
-- Measures:
--   searchable                    from the insert or change of an image to its committed embedding
--   reused                        the same for images whose bytes had been embedded for another image
--   failed                        the same for images that failed
--   query                         from a query image to its answer
--   fetch, decode                 stages of a worker, for one image
--   claim, lookup, encode, write  stages of a worker, for a batch
--
-- Workers add their counts every two seconds. Times are in seconds. Quantiles are interpolated in buckets that
-- grow by 19 %.
--
-- Columns:
--   space_id    the embedding space
--   space       its name
--   measure     what was measured; see above
--   period      the last minute, five minutes or hour
--   count       number of events
--   per_second  events per second
--   mean        mean time
--   p50         median time
--   p95         95th percentile
--   p99         99th percentile
--
-- Example:
--     SELECT space, measure, count, p50, p95 FROM lookalike.latency_status WHERE period = '5 minutes';
CREATE OR REPLACE VIEW lookalike.latency_status AS
SELECT s.id AS space_id, s.name AS space, c.measure, p.period,
       sum(p.count)::bigint AS count,
       (sum(p.count) / p.length)::float8 AS per_second,
       (sum(p.seconds) / sum(p.count))::float8 AS mean,
       lookalike.latency_quantile(array_agg(c.bucket ORDER BY c.bucket), array_agg(p.count ORDER BY c.bucket), 0.5) AS p50,
       lookalike.latency_quantile(array_agg(c.bucket ORDER BY c.bucket), array_agg(p.count ORDER BY c.bucket), 0.95) AS p95,
       lookalike.latency_quantile(array_agg(c.bucket ORDER BY c.bucket), array_agg(p.count ORDER BY c.bucket), 0.99) AS p99
FROM (
    SELECT date_bin('10 s', n.at - interval '1 minute', 'epoch') AS minute,
           date_bin('10 s', n.at - interval '5 minutes', 'epoch') AS minutes,
           date_bin('10 s', n.at - interval '1 hour', 'epoch') AS hour, n.at
    FROM (SELECT statement_timestamp() AS at OFFSET 0) n
) w
CROSS JOIN LATERAL (  -- in one pass over the hour
    SELECT l.space_id, l.measure, l.bucket,
           sum(l.count) FILTER (WHERE l.slot >= w.minute) AS minute_count,
           sum(l.seconds) FILTER (WHERE l.slot >= w.minute) AS minute_seconds,
           sum(l.count) FILTER (WHERE l.slot >= w.minutes) AS minutes_count,
           sum(l.seconds) FILTER (WHERE l.slot >= w.minutes) AS minutes_seconds,
           sum(l.count) AS hour_count, sum(l.seconds) AS hour_seconds
    FROM lookalike.latencies l
    WHERE l.slot >= w.hour
    GROUP BY l.space_id, l.measure, l.bucket
) c
CROSS JOIN LATERAL (VALUES
    (interval '1 minute', extract(epoch FROM w.at - w.minute), c.minute_count::bigint, c.minute_seconds),
    (interval '5 minutes', extract(epoch FROM w.at - w.minutes), c.minutes_count::bigint, c.minutes_seconds),
    (interval '1 hour', extract(epoch FROM w.at - w.hour), c.hour_count::bigint, c.hour_seconds)
) AS p (period, length, count, seconds)
JOIN lookalike.embedding_spaces s ON s.id = c.space_id
WHERE p.count > 0
GROUP BY s.id, s.name, c.measure, p.period, p.length;
