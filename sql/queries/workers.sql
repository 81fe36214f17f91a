-- name: api_connections
-- Connections of all API processes to this database, by state (active, idle, ...). A role sees the state of its own
-- connections only, unless it is a member of pg_monitor.
SELECT coalesce(a.state, 'unknown') AS state, count(*) AS connections
FROM pg_catalog.pg_stat_activity a
WHERE a.application_name = 'lookalike api' AND a.datname = current_database()
GROUP BY 1
ORDER BY 1;

-- name: cost_of_workers
-- What workers spent in the last `days` days, with the fields of WorkerCost; see lookalike.cost_of_workers.
SELECT c.space, c.device, c.images, c.reused, c.queries, c.seconds, c.seconds_each, c.per_second, c.claim_each,
       c.fetch_each, c.lookup_each, c.decode_each, c.encode_each, c.write_each
FROM lookalike.cost_of_workers((statement_timestamp() AT TIME ZONE 'UTC')::date - :'days'::int) c;

-- name: end_worker
-- Delete a worker's row when it ends normally.
DELETE FROM lookalike.workers w WHERE w.id = :'worker_id'::bigint;

-- name: failure_reasons
-- The view lookalike.failure_reasons with the fields of FailureReason, most frequent first.
SELECT space, step, reason, images, latest, example
FROM lookalike.failure_reasons
ORDER BY images DESC, space, step, reason;

-- name: freshness
-- The view lookalike.freshness with the fields of Freshness: active space first, shortest period first.
SELECT space, extract(epoch FROM period)::int AS period_seconds, images, images_per_second, reused, failed,
       searchable_p50, searchable_p95, searchable_p99, queries, queries_per_second, query_p50, query_p95, query_p99
FROM lookalike.freshness
ORDER BY active DESC, space_id, period;

-- name: latency_totals
-- All latencies counted so far, with the fields of LatencyTotal; these sums only grow.
SELECT s.name AS space, l.measure, l.bucket::int AS bucket, sum(l.count)::bigint AS count, sum(l.seconds) AS seconds
FROM lookalike.latencies l JOIN lookalike.embedding_spaces s ON s.id = l.space_id
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;

-- name: search_probe
-- Cost of searches in the active space now: runs `most` searches without a filter, by random stored images.
SELECT count(*) AS searches, avg((p.plan ->> 'ms')::float8) / 1000 AS seconds
FROM (SELECT lookalike.explain_search(e.embedding) AS plan
      FROM (SELECT e.embedding
            FROM (SELECT min(i.id) AS first, max(i.id) AS last FROM lookalike.images i) span
            CROSS JOIN LATERAL (
                SELECT DISTINCT span.first + floor(random() * (span.last - span.first + 1))::bigint AS id
                FROM generate_series(1, 8 * :'most'::int)) drawn
            JOIN lookalike.active_embeddings e ON e.image_id = drawn.id
            LIMIT :'most'::int) e) p;

-- name: search_seconds
-- Cost of searches in the active space, from those whose recall was checked in the last `days` days.
SELECT count(c.search_seconds) AS searches, avg(c.search_seconds) AS seconds
FROM lookalike.recall_checks c
WHERE c.space_id = (SELECT a.id FROM lookalike.active_space() a) AND c.checked_at > clock_timestamp() - make_interval(days => :'days'::int);

-- name: serve_spaces
-- Record the spaces that a worker serves now.
UPDATE lookalike.workers SET space_ids = :'space_ids'::smallint[] WHERE id = :'worker_id'::bigint;

-- name: space_status
-- The view lookalike.space_status with the fields of SpaceStatus.
SELECT id, name, model, dimensions, active, embedded, queued, failed, oldest_job_seconds, live_workers,
       index_name::text, index_valid, bytes, queued_about
FROM lookalike.space_status
ORDER BY active DESC, id;

-- name: storage_parts
-- The view lookalike.storage_parts with the fields of StoragePart, shared parts first.
SELECT p.space, p.active, p.part, p.kind, p.bytes, p.bytes_per_image
FROM lookalike.storage_parts p
WHERE p.bytes > 0
ORDER BY p.space_id IS NOT NULL, p.active DESC, p.space_id, p.bytes DESC, p.part;

-- name: worker_status
-- The view lookalike.worker_status with the fields of WorkerStatus, live workers first.
SELECT id, name, version, device, state, spaces, alive, started_at, heartbeat_at, images_embedded, images_failed,
       queries_answered, last_error
FROM lookalike.worker_status
ORDER BY alive DESC, id;
