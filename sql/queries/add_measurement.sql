-- Stores what one choice gave; what the same run has of it already is replaced. p50, p95, p99 and the
-- ceiling of the p95 are passed as median_ms, tail_ms, far_tail_ms and tail_ceiling_ms.
INSERT INTO lookalike.measurements (
    run_id, choice, options, rows, k, recall, recall_floor, label_precision, p50_ms, p95_ms, p99_ms, p95_ceiling_ms, qps,
    build_seconds, insert_ms, index_bytes, table_bytes, memory_bytes, query_ms, query_recalls)
VALUES (
    :'run_id'::bigint, :'choice', :'options'::jsonb, :'rows'::bigint, :'k'::int, :'recall'::float8,
    :'recall_floor'::float8, :'label_precision'::float8, :'median_ms'::float8, :'tail_ms'::float8, :'far_tail_ms'::float8,
    :'tail_ceiling_ms'::float8, :'qps'::jsonb, :'build_seconds'::float8, :'insert_ms'::float8, :'index_bytes'::bigint,
    :'table_bytes'::bigint, :'memory_bytes'::bigint, :'query_ms'::real[], :'query_recalls'::real[])
ON CONFLICT (run_id, choice) DO UPDATE SET
    options = excluded.options, rows = excluded.rows, k = excluded.k, recall = excluded.recall,
    recall_floor = excluded.recall_floor, label_precision = excluded.label_precision, p50_ms = excluded.p50_ms,
    p95_ms = excluded.p95_ms, p99_ms = excluded.p99_ms, p95_ceiling_ms = excluded.p95_ceiling_ms, qps = excluded.qps,
    build_seconds = excluded.build_seconds, insert_ms = excluded.insert_ms, index_bytes = excluded.index_bytes,
    table_bytes = excluded.table_bytes, memory_bytes = excluded.memory_bytes, query_ms = excluded.query_ms,
    query_recalls = excluded.query_recalls, measured_at = clock_timestamp();
