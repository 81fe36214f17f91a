-- name: add_axis
-- Insert one axis of a transform.
INSERT INTO lookalike.transform_axes (transform_id, form, n, shift, axis)
VALUES (:'transform'::smallint, :'form', :'n'::smallint, :'shift'::float8, :'axis'::halfvec);

-- name: add_transform
-- Insert a transform; insert its axes in the same transaction.
INSERT INTO lookalike.transforms (space_id, bits, dimensions, fingerprint, sample_size, seed, explained_variance)
VALUES (:'space_id'::smallint, :'bits'::int, :'dimensions'::int, :'fingerprint', :'sample_size'::int, :'seed'::bigint,
        :'explained_variance'::float8)
RETURNING id;

-- name: ann_indexes
-- The ANN indexes of one space, or of all if `space_id` is NULL, with their build options.
SELECT x.space, x.space_active AS active, x.name, x.kind, x.valid, NOT x.valid AND x.building AS building,
       coalesce(x.bytes, 0) AS bytes, coalesce(x.scans, 0) AS scans,
       x.table_name, x.serving,
       CASE WHEN x.kind = 'hnsw' THEN coalesce(
           (SELECT o.option_value::int FROM pg_options_to_table(x.options) o WHERE o.option_name = 'm'), 16) END AS m,
       CASE WHEN x.kind = 'hnsw' THEN coalesce(
           (SELECT o.option_value::int FROM pg_options_to_table(x.options) o WHERE o.option_name = 'ef_construction'),
           64) END AS ef_construction,
       CASE WHEN x.kind = 'ivfflat' THEN coalesce(
           (SELECT o.option_value::int FROM pg_options_to_table(x.options) o WHERE o.option_name = 'lists'), 100) END AS lists
FROM lookalike.ann_indexes x
WHERE :'space_id'::smallint IS NULL OR x.space_id = :'space_id'::smallint
ORDER BY x.space_id, x.name;

-- name: attribute_indexes
-- The attribute indexes, with the fields of AttributeIndex; with a name, only those of that attribute.
SELECT a.name, a.kind, a.index_name, a.valid, a.size_bytes, a.scans
FROM lookalike.attribute_indexes() a
WHERE :'name'::text IS NULL OR a.path = lookalike.attribute_path(:'name'::text)
ORDER BY a.name, a.kind;

-- name: axes
-- The axes of a transform, in order.
SELECT a.form, a.axis, a.shift FROM lookalike.transform_axes a
WHERE a.transform_id = :'transform'::smallint ORDER BY a.form, a.n;

-- name: builds
-- Running index builds on embedding tables, by Lookalike (`ours`: the session holds the lock `lock_class` with the
-- space's id) or by hand. Returns the session, the phase, whether CREATE INDEX runs in it, the phase's progress from 0
-- to 1, seconds since the statement began, seconds left while the graph fills, and the session that it waits for.
SELECT s.name AS space, b.pid, b.ours, coalesce(nullif(a.application_name, ''), 'a session') AS application, w.phase,
       p.pid IS NOT NULL AS creating, w.done, w.seconds,
       CASE WHEN w.phase = 'building index: loading tuples' AND w.done >= 0.01 THEN w.seconds * (1 - w.done) / w.done END
           AS seconds_left,
       CASE WHEN l.pid IS NOT NULL THEN format('%s (pid %s, in a transaction for %s s)',
           coalesce(nullif(l.application_name, ''), 'a session'), l.pid,
           round(extract(epoch FROM clock_timestamp() - l.xact_start))) END AS waits_for
FROM (
    SELECT u.space_id, u.pid, bool_or(u.ours) AS ours
    FROM (
        SELECT s.id AS space_id, l.pid, true AS ours
        FROM pg_locks l
        JOIN lookalike.embedding_spaces s ON s.id::int::oid = l.objid
        WHERE l.locktype = 'advisory' AND l.classid = :'lock_class'::int::oid AND l.objsubid = 2 AND l.granted
          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        UNION ALL
        SELECT s.id, p.pid, false
        FROM pg_stat_progress_create_index p
        JOIN lookalike.embedding_spaces s ON to_regclass(format('lookalike.%I', s.table_name)) = p.relid
        WHERE p.datname = current_database()
    ) u
    GROUP BY u.space_id, u.pid
) b
JOIN lookalike.embedding_spaces s ON s.id = b.space_id
LEFT JOIN pg_stat_activity a ON a.pid = b.pid
LEFT JOIN pg_stat_progress_create_index p ON p.pid = b.pid
LEFT JOIN pg_stat_activity l ON l.pid = nullif(p.current_locker_pid, 0)
CROSS JOIN LATERAL (
    SELECT coalesce(p.phase, CASE WHEN a.query ILIKE 'DROP INDEX%' THEN 'dropping an index' ELSE 'between two steps' END)
               AS phase,
           coalesce(extract(epoch FROM clock_timestamp() - a.query_start)::float8, 0) AS seconds,
           least(1, CASE WHEN p.phase LIKE 'waiting%' THEN coalesce(p.lockers_done::float8 / nullif(p.lockers_total, 0), 0)
                         ELSE coalesce(p.tuples_done::float8 / nullif(p.tuples_total, 0),
                                       p.blocks_done::float8 / nullif(p.blocks_total, 0), 0) END) AS done
) w
ORDER BY s.id, b.pid;

-- name: choice_state
-- What searches of a space use now, with the fields of IndexState; `choice` is the index spec as text.
SELECT s.name AS space, s.active, :'choice'::text AS choice, t.id AS transform, t.explained_variance, t.sample_size, t.fitted_at,
       x.name AS index, coalesce(x.bytes, 0) AS index_bytes,
       coalesce(pg_table_size(to_regclass('lookalike.candidates_' || t.id))
                + pg_relation_size(to_regclass(format('lookalike.candidates_%s_pkey', t.id))), 0)::bigint AS candidates_bytes
FROM lookalike.embedding_spaces s
LEFT JOIN lookalike.transforms t ON t.id = (s.index_options ->> 'transform')::smallint
LEFT JOIN LATERAL (
    SELECT a.name, a.bytes FROM lookalike.ann_indexes a
    WHERE a.space_id = s.id AND a.serving AND a.valid AND s.index_options ->> 'kind' <> 'exact'
    ORDER BY a.name LIMIT 1
) x ON true
WHERE s.name = :'name';

-- name: churn
-- What changes left behind in the tables of all spaces: rows, dead rows (the larger number of the embeddings and their
-- candidates), and the serving index, which holds halfvecs of `dimensions` or as many bytes. Also the recall of the
-- last day's searches, if it was checked. `rows` is exact up to 10,000 and the planner's estimate above; `dead` comes
-- from the statistics, limited by the table's size.
SELECT s.id AS space_id, s.name AS space,
       CASE WHEN t.id IS NULL THEN s.dimensions ELSE coalesce(t.bits / 16, t.dimensions) END AS dimensions,
       n.rows,
       greatest(lookalike.dead_about(s.table_name, n.rows), lookalike.dead_about('candidates_' || t.id, n.rows), 0) AS dead,
       x.name AS index,
       coalesce(x.bytes, 0) AS index_bytes, coalesce(x.m, 16) AS m, x.lists,
       greatest(u.last_vacuum, u.last_autovacuum) AS vacuumed_at, r.recall, r.goal, coalesce(r.below, false) AS below
FROM lookalike.embedding_spaces s
JOIN pg_stat_user_tables u ON u.relid = to_regclass(format('lookalike.%I', s.table_name))
CROSS JOIN LATERAL (SELECT lookalike.count_about(s.table_name, 10000) AS rows OFFSET 0) n
LEFT JOIN lookalike.transforms t ON t.id = (s.index_options ->> 'transform')::int
LEFT JOIN LATERAL (
    SELECT i.name, i.bytes,
           (SELECT o.option_value::int FROM pg_options_to_table(i.options) o WHERE o.option_name = 'm') AS m,
           (SELECT o.option_value::int FROM pg_options_to_table(i.options) o WHERE o.option_name = 'lists') AS lists
    FROM lookalike.ann_indexes i
    WHERE i.space_id = s.id AND i.serving AND i.valid AND i.name = i.table_name || '_' || i.kind
) x ON true
LEFT JOIN lookalike.recall_status r
    ON r.space_id = s.id AND r.period = interval '1 day' AND r.plan IS NULL AND r.selectivity IS NULL
ORDER BY s.active DESC, s.id;

-- name: drift_transform
-- The transform that searches of the active space use now, or no row.
SELECT t.id, t.fitted_at FROM lookalike.transforms t
WHERE t.id = (SELECT lookalike.active_transform_id() FROM (SELECT FROM lookalike.active_candidates WHERE false) held
              RIGHT JOIN (VALUES (1)) one ON true);

-- name: index_health
-- Possible causes of slow or incomplete searches in the active space, with the fields of Evidence: rows, dead rows, the
-- rows at the index build (NULL: unknown), and bytes of the index and of memory.
SELECT s.name AS space, n.rows, lookalike.dead_about(s.table_name, n.rows) AS dead,
       x.built_rows, x.built_at,
       coalesce(x.bytes, 0) AS index_bytes,
       pg_size_bytes(current_setting('shared_buffers')) AS shared_buffers,
       pg_size_bytes(current_setting('effective_cache_size')) AS cache,
       coalesce((s.index_options ->> 'search_depth')::float8, 1) AS search_depth
FROM lookalike.embedding_spaces s
CROSS JOIN LATERAL (SELECT lookalike.count_about(s.table_name, 10000) AS rows OFFSET 0) n
LEFT JOIN LATERAL (SELECT sum(a.bytes)::bigint AS bytes, max(b.at) AS built_at, max(b.rows) AS built_rows
                   FROM lookalike.ann_indexes a CROSS JOIN LATERAL lookalike.index_built(a.index_oid) b
                   WHERE a.space_id = s.id AND a.valid) x ON true
WHERE s.active;

-- name: index_leftovers
-- Indexes of a space's table that a build or REINDEX CONCURRENTLY (_ccnew, _ccold) left invalid. Each write still
-- maintains them. Run this under the build lock, while no build runs.
SELECT c.relname::text
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = to_regclass(format('lookalike.%I', :'table_name'::text)) AND NOT i.indisvalid
  AND (a.amname IN ('hnsw', 'ivfflat') OR c.relname ~ '_cc(new|old)[0-9]*$')
ORDER BY c.relname;

-- name: index_needs
-- Inputs to the estimate of an index build: rows (exact up to 100,000, the planner's estimate above), settings in
-- bytes, and the folder of the index, or NULL if this role may not see it.
SELECT lookalike.count_about(s.table_name, 100000) AS rows,
       pg_size_bytes(current_setting('maintenance_work_mem')) AS memory_set,
       current_setting('max_parallel_maintenance_workers')::int AS workers,
       current_setting('max_parallel_workers')::int AS workers_most,
       pg_size_bytes(current_setting('max_wal_size')) AS wal_most,
       coalesce(
           (SELECT nullif(pg_tablespace_location(t.oid), '') FROM pg_tablespace t
            WHERE t.spcname = current_setting('default_tablespace')
               OR (current_setting('default_tablespace') = ''
                   AND t.oid = (SELECT d.dattablespace FROM pg_database d WHERE d.datname = current_database()))),
           (SELECT v.setting FROM pg_settings v WHERE v.name = 'data_directory')) AS folder,
       (SELECT v.setting FROM pg_settings v WHERE v.name = 'data_directory') AS data_directory,
       extract(epoch FROM pg_postmaster_start_time())::float8 AS server_started
FROM lookalike.embedding_spaces s
WHERE s.id = :'space_id'::smallint;

-- name: index_wanted
-- Return whether a space's indexes need work that no session does: it lacks a valid ANN index although it has
-- `min_rows` embeddings and its index spec needs one (candidates have an index from the start), or an interrupted build
-- left something to finish or drop.
SELECT (s.index_options ->> 'kind' <> 'exact'
        AND lookalike.count_up_to(s.table_name, :'min_rows'::bigint) >= :'min_rows'::bigint
        AND NOT EXISTS (SELECT FROM lookalike.ann_indexes x WHERE x.space_id = s.id AND x.valid AND x.serving))
    OR EXISTS (SELECT FROM lookalike.ann_indexes x
               WHERE x.space_id = s.id AND x.serving AND NOT x.building AND (NOT x.valid OR x.name ~ '_(hnsw|ivfflat)_new$'))
FROM lookalike.embedding_spaces s
WHERE s.id = :'space_id'::smallint;

-- name: note_filled
-- Record that every embedding has its candidate from now on.
UPDATE lookalike.transforms t SET filled_at = clock_timestamp()
WHERE t.id = :'transform'::smallint AND t.filled_at IS NULL;

-- name: recent_embeddings
-- The embeddings of the latest `most` images in the active space.
SELECT e.embedding FROM lookalike.active_embeddings e ORDER BY e.image_id DESC LIMIT :'most'::int;

-- name: record_index
-- Record the build options of a space's index once it serves.
UPDATE lookalike.embedding_spaces s
SET index_options = s.index_options || :'options'::jsonb
WHERE s.id = :'space_id'::smallint AND NOT s.index_options @> :'options'::jsonb;

-- name: transform
-- How a transform was fitted, with the fields of Transform.
SELECT t.sample_size, t.seed, t.explained_variance FROM lookalike.transforms t WHERE t.id = :'transform'::smallint;

-- name: transforms
-- The transforms for a space's candidates, oldest first. If `bits` and `dimensions` are given (0: none), only those of
-- that form whose candidates have a table.
SELECT t.id
FROM lookalike.transforms t JOIN lookalike.embedding_spaces s ON s.id = t.space_id AND t.id IS DISTINCT FROM s.transform_id
WHERE t.space_id = :'space_id'::smallint
  AND (:'bits'::int IS NULL OR (coalesce(t.bits, 0) = :'bits'::int AND coalesce(t.dimensions, 0) = :'dimensions'::int
                                AND to_regclass(format('lookalike.candidates_%s', t.id)) IS NOT NULL))
ORDER BY t.id;
