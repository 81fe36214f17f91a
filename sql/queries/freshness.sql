-- The view lookalike.freshness, in the order of records.Freshness; the active space first, the shortest period first.
SELECT space, extract(epoch FROM period)::int AS period_seconds, images, images_per_second, reused, failed,
       searchable_p50, searchable_p95, searchable_p99, queries, queries_per_second, query_p50, query_p95, query_p99
FROM lookalike.freshness
ORDER BY active DESC, space_id, period;
