-- name: add_measurement
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

-- name: begin_run
-- Records a run of the trade-off lab; returns its number.
INSERT INTO lookalike.measurement_runs (space, fingerprint, dimensions, rows_total, request, conditions)
VALUES (:'space', :'fingerprint', :'dimensions'::int, :'rows_total'::bigint, :'request'::jsonb, :'conditions'::jsonb)
RETURNING id;

-- name: check_queries
-- Stored images to search by, drawn by seed from the first million of the active space.
SELECT e.image_id FROM (SELECT a.image_id FROM lookalike.active_embeddings a LIMIT 1000000) e
WHERE lookalike.active_space_id() = :'space_id'::smallint
ORDER BY hashint8extended(e.image_id, :'seed'::bigint), e.image_id LIMIT :'most'::int;

-- name: check_recall
-- The tie-aware recall of the ids found by a stored image: those within the k-th true distance + epsilon, of as many as
-- there could be. NULL where the image has no neighbour.
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
-- A search by a stored image as lookalike.similar does it: with defaults, so that the space's index options decide.
SELECT s.id FROM lookalike.similar(:'image_id'::bigint, :'k'::int) s;

-- name: database_settings
-- The settings stored for this database, for all roles.
SELECT split_part(c.setting, '=', 1) AS name, substr(c.setting, strpos(c.setting, '=') + 1) AS value
FROM pg_db_role_setting s
JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database(), unnest(s.setconfig) AS c (setting)
WHERE s.setrole = 0;

-- name: end_run
-- Records that a run has measured all that was asked for.
UPDATE lookalike.measurement_runs r SET ended_at = clock_timestamp() WHERE r.id = :'run_id'::bigint AND r.ended_at IS NULL;

-- name: lab_conditions
-- What a measurement depends on, as the server tells it.
SELECT version() AS postgresql,
       (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'vector') AS pgvector,
       (SELECT jsonb_object_agg(v.name, current_setting(v.name)) FROM pg_settings v
        WHERE v.name IN ('shared_buffers', 'work_mem', 'maintenance_work_mem', 'effective_cache_size', 'jit', 'fsync',
                         'max_parallel_workers_per_gather', 'max_parallel_maintenance_workers', 'random_page_cost',
                         'synchronous_commit')) AS settings;

-- name: lab_set_search
-- Has the built index of a space searched as these options say; the transform below it stays.
UPDATE lookalike.embedding_spaces s
SET index_options = :'options'::jsonb || jsonb_strip_nulls(jsonb_build_object('transform', s.index_options -> 'transform'))
WHERE s.id = :'space_id'::smallint;

-- name: lab_table_bytes
-- What the embeddings of a space take on the disk with their primary key, without ANN indexes and candidates.
SELECT (pg_table_size(t.oid) + coalesce(
            (SELECT sum(pg_relation_size(i.indexrelid)) FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary), 0)
       )::bigint
FROM lookalike.embedding_spaces s, LATERAL (SELECT to_regclass(format('lookalike.%I', s.table_name)) AS oid) t
WHERE s.id = :'space_id'::smallint;

-- name: logged_queries
-- Live searches without a filter that are kept to have their recall checked, the latest first.
SELECT s.query FROM lookalike.search_samples s
WHERE s.space_id = :'space_id'::smallint AND s.filter IS NULL ORDER BY s.searched_at DESC LIMIT :'most'::int;

-- name: measured_search
-- A search as it is measured: lookalike.search with its defaults, so that the space's index options decide.
SELECT s.id FROM lookalike.search(:'query'::halfvec, :'k'::int) s;

-- name: measurements
-- What one run has measured so far.
SELECT m.choice, m.options, m.rows, m.k, m.recall, m.recall_floor, m.label_precision, m.p50_ms, m.p95_ms, m.p99_ms,
       m.p95_ceiling_ms, m.qps, m.build_seconds, m.insert_ms, m.index_bytes, m.table_bytes, m.memory_bytes, m.query_ms,
       m.query_recalls, m.measured_at
FROM lookalike.measurements m WHERE m.run_id = :'run_id'::bigint ORDER BY m.measured_at, m.choice;

-- name: note_promise
-- Keeps with the index choice of a space what was promised of it.
UPDATE lookalike.embedding_spaces s SET index_options = s.index_options || jsonb_build_object('promise', :'promise'::jsonb)
WHERE s.id = :'space_id'::smallint;

-- name: runs
-- Runs of the trade-off lab, the latest first, with the number of choices measured: one, those of a space, or all.
SELECT r.id, r.started_at, r.ended_at, r.space, r.fingerprint, r.dimensions, r.rows_total, r.request, r.conditions,
       (SELECT count(*) FROM lookalike.measurements m WHERE m.run_id = r.id) AS choices
FROM lookalike.measurement_runs r
WHERE (:'run_id'::bigint IS NULL OR r.id = :'run_id'::bigint)
  AND (:'fingerprint'::text IS NULL OR r.fingerprint = :'fingerprint'::text)
ORDER BY r.id DESC LIMIT 1000;

-- name: scratch_databases
-- The scratch databases of this server, of live runs and of dead ones.
SELECT d.datname FROM pg_database d
WHERE d.datname LIKE :'prefix' AND shobj_description(d.oid, 'pg_database') = :'comment'
ORDER BY d.datname;

-- name: scratch_held
-- Whether a live session of this server, in whichever database, holds the advisory lock of a scratch database.
SELECT EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = :'lock_class'::bigint::oid AND l.objid = :'key'::bigint::oid
      AND l.objsubid = 2
);

-- name: storage_parameters
-- The storage parameters of a table or an index of schema lookalike that were set.
SELECT o.option_name, o.option_value
FROM pg_class c, pg_options_to_table(c.reloptions) o
WHERE c.oid = to_regclass(format('lookalike.%I', :'relation'::text));
