-- name: add_measurement
-- Store the measurement of one index spec, and replace an earlier one of the same run. The parameters median_ms,
-- tail_ms, far_tail_ms and tail_ceiling_ms are p50, p95, p99 and the ceiling of p95.
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

-- name: begin_run
-- Insert a trade-off run; returns its id.
INSERT INTO lookalike.measurement_runs (space, fingerprint, dimensions, rows_total, request, conditions)
VALUES (:'space', :'fingerprint', :'dimensions'::int, :'rows_total'::bigint, :'request'::jsonb, :'conditions'::jsonb)
RETURNING id;

-- name: check_queries
-- Ids of stored images to search by, drawn by `seed` from the first million of the active space.
SELECT e.image_id FROM (SELECT a.image_id FROM lookalike.active_embeddings a LIMIT 1000000) e
WHERE lookalike.active_space_id() = :'space_id'::smallint
ORDER BY hashint8extended(e.image_id, :'seed'::bigint), e.image_id LIMIT :'most'::int;

-- name: check_recall
-- Tie-aware recall of the ids that a search by a stored image found: the share of the possible results that lie within
-- the k-th true distance + epsilon. NULL if the image has no neighbours.
WITH exact AS MATERIALIZED (
    SELECT s.id, s.distance FROM lookalike.similar(:'image_id'::bigint, :'k'::int, strategy => 'exact') s
), reach AS (
    SELECT max(e.distance) + :'epsilon'::float8 AS distance, count(*) AS rows FROM exact e
)
SELECT least(count(f.id), r.rows)::float8 / nullif(r.rows, 0)
FROM reach r
LEFT JOIN unnest(:'found'::bigint[]) AS f (id)
    ON (SELECT a.embedding <-> lookalike.embedding_of(:'image_id'::bigint) FROM lookalike.active_embeddings a
        WHERE a.image_id = f.id) <= r.distance
GROUP BY r.rows;

-- name: check_search
-- Search by a stored image with lookalike.similar and its defaults, so that the space's index options apply.
SELECT s.id FROM lookalike.similar(:'image_id'::bigint, :'k'::int) s;

-- name: database_settings
-- Settings stored for this database, for all roles.
SELECT split_part(c.setting, '=', 1) AS name, substr(c.setting, strpos(c.setting, '=') + 1) AS value
FROM pg_db_role_setting s
JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database(), unnest(s.setconfig) AS c (setting)
WHERE s.setrole = 0;

-- name: end_run
-- Record that a run has measured everything requested.
UPDATE lookalike.measurement_runs r SET ended_at = clock_timestamp() WHERE r.id = :'run_id'::bigint AND r.ended_at IS NULL;

-- name: measurement_environment
-- Versions and settings that measurements depend on.
SELECT version() AS postgresql,
       (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'vector') AS pgvector,
       (SELECT jsonb_object_agg(v.name, current_setting(v.name)) FROM pg_settings v
        WHERE v.name IN ('shared_buffers', 'work_mem', 'maintenance_work_mem', 'effective_cache_size', 'jit', 'fsync',
                         'max_parallel_workers_per_gather', 'max_parallel_maintenance_workers', 'random_page_cost',
                         'synchronous_commit')) AS settings;

-- name: set_index_options
-- Set the search options for a space's existing index; its transform stays.
UPDATE lookalike.embedding_spaces s
SET index_options = :'options'::jsonb || jsonb_strip_nulls(jsonb_build_object('transform', s.index_options -> 'transform'))
WHERE s.id = :'space_id'::smallint;

-- name: embedding_table_bytes
-- Bytes on disk of a space's embeddings with their primary key, without ANN indexes and candidates.
SELECT (pg_table_size(t.oid) + coalesce(
            (SELECT sum(pg_relation_size(i.indexrelid)) FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary), 0)
       )::bigint
FROM lookalike.embedding_spaces s, LATERAL (SELECT to_regclass(format('lookalike.%I', s.table_name)) AS oid) t
WHERE s.id = :'space_id'::smallint;

-- name: logged_queries
-- Sampled live searches without a filter, latest first.
SELECT s.query FROM lookalike.search_samples s
WHERE s.space_id = :'space_id'::smallint AND s.filter IS NULL ORDER BY s.searched_at DESC LIMIT :'most'::int;

-- name: measured_search
-- Search with lookalike.search and its defaults, so that the space's index options apply.
SELECT s.id FROM lookalike.search(:'query'::halfvec, :'k'::int) s;

-- name: measurements
-- The measurements of one run so far.
SELECT m.choice, m.options, m.rows, m.k, m.recall, m.recall_floor, m.label_precision, m.p50_ms, m.p95_ms, m.p99_ms,
       m.p95_ceiling_ms, m.qps, m.build_seconds, m.insert_ms, m.index_bytes, m.table_bytes, m.memory_bytes, m.query_ms,
       m.query_recalls, m.measured_at
FROM lookalike.measurements m WHERE m.run_id = :'run_id'::bigint ORDER BY m.measured_at, m.choice;

-- name: note_promise
-- Store, with a space's index options, the results that were promised for them.
UPDATE lookalike.embedding_spaces s SET index_options = s.index_options || jsonb_build_object('promise', :'promise'::jsonb)
WHERE s.id = :'space_id'::smallint;

-- name: runs
-- Trade-off runs, latest first, with the number of measured index specs: one run, those of a space, or all.
SELECT r.id, r.started_at, r.ended_at, r.space, r.fingerprint, r.dimensions, r.rows_total, r.request, r.conditions,
       (SELECT count(*) FROM lookalike.measurements m WHERE m.run_id = r.id) AS choices
FROM lookalike.measurement_runs r
WHERE (:'run_id'::bigint IS NULL OR r.id = :'run_id'::bigint)
  AND (:'fingerprint'::text IS NULL OR r.fingerprint = :'fingerprint'::text)
ORDER BY r.id DESC LIMIT 1000;

-- name: scratch_databases
-- The scratch databases on this server, of live and of dead runs.
SELECT d.datname FROM pg_database d
WHERE d.datname LIKE :'prefix' AND shobj_description(d.oid, 'pg_database') = :'comment'
ORDER BY d.datname;

-- name: scratch_held
-- Return whether a live session on this server, in any database, holds the advisory lock of a scratch database.
SELECT EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = :'lock_class'::bigint::oid AND l.objid = :'key'::bigint::oid
      AND l.objsubid = 2
);

-- name: storage_parameters
-- The storage parameters set on a table or index of schema lookalike.
SELECT o.option_name, o.option_value
FROM pg_class c, pg_options_to_table(c.reloptions) o
WHERE c.oid = to_regclass(format('lookalike.%I', :'relation'::text));
