-- What one run has measured so far.
SELECT m.choice, m.options, m.rows, m.k, m.recall, m.recall_floor, m.label_precision, m.p50_ms, m.p95_ms, m.p99_ms,
       m.p95_ceiling_ms, m.qps, m.build_seconds, m.insert_ms, m.index_bytes, m.table_bytes, m.memory_bytes, m.query_ms,
       m.query_recalls, m.measured_at
FROM lookalike.measurements m WHERE m.run_id = :'run_id'::bigint ORDER BY m.measured_at, m.choice;
