-- name: compare_spaces
-- Compare two spaces on a sample of images; see lookalike.compare_spaces.
SELECT c.image_id, c.overlap, c.first_distance, c.second_distance, c.first_precision, c.second_precision,
       c.first_ids, c.second_ids
FROM lookalike.compare_spaces(:'first', :'second', :'k'::int, :'sample'::int, :'label', :'seed') c;

-- name: forget_jobs
-- Delete up to `most` jobs of a space before it is dropped, and return how many. Skips locked jobs.
WITH gone AS (
    DELETE FROM lookalike.jobs j
    USING (SELECT k.image_id, k.space_id FROM lookalike.jobs k WHERE k.space_id = :'space_id'::smallint
           LIMIT :'most'::int FOR UPDATE SKIP LOCKED) d
    WHERE j.image_id = d.image_id AND j.space_id = d.space_id
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: hold_space
-- The active space, kept active until the transaction ends; see lookalike.hold_space.
SELECT s.id, s.name, s.fingerprint
FROM lookalike.hold_space(:'in_space'::smallint) s;

-- name: lock_holders
-- Sessions that hold a lock on images or the active view, longest transaction first: a switch or a drop waits for them.
SELECT format('%s (pid %s, %s, for %s s)', coalesce(nullif(a.application_name, ''), 'a session'), a.pid, a.state,
              round(extract(epoch FROM clock_timestamp() - a.xact_start)))
FROM pg_stat_activity a
WHERE a.pid <> pg_backend_pid() AND a.xact_start < clock_timestamp() - interval '100 ms'
  AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation'
              AND l.relation IN ('lookalike.images'::regclass, 'lookalike.active_embeddings'::regclass))
ORDER BY a.xact_start
LIMIT 5;

-- name: nearest_in
-- Ids and distances of the nearest images to a query embedding in one space; see lookalike.nearest_in.
SELECT n.id, n.distance FROM lookalike.nearest_in(:'space', :'query'::halfvec, :'k'::int) n ORDER BY n.distance, n.id;

-- name: sample
-- Up to `most` searchable images, a different selection for each `seed`, from a sample of the table's pages (`percent`
-- of them), so that the cost is bounded. The condition of a filter replaces TRUE below.
SELECT i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width, i.height, i.caption, i.attributes,
       i.created_at, i.updated_at
FROM lookalike.images i TABLESAMPLE SYSTEM (:'percent'::float4) REPEATABLE (:'seed'::int)
WHERE (/*filter*/ TRUE) AND EXISTS (SELECT FROM lookalike.active_embeddings e WHERE e.image_id = i.id)
ORDER BY hashint8extended(i.id, :'seed'::bigint)
LIMIT :'most'::bigint;

-- name: snapshot
-- The current snapshot as text; it lists the running transactions.
SELECT pg_current_snapshot()::text;

-- name: space_bytes
-- Bytes of a space's embeddings with indexes, and their number: exact up to 100,000, estimated above.
SELECT pg_total_relation_size(format('lookalike.%I', s.table_name)::regclass) AS bytes,
       lookalike.count_about(s.table_name, 100000) AS rows
FROM lookalike.embedding_spaces s WHERE s.name = :'space';

-- name: space_counts
-- Exact counts of one space: images, embedded, queued and failed; and its live workers.
SELECT (SELECT count(*) FROM lookalike.images) AS images,
       lookalike.count_up_to(s.table_name, 9223372036854775807) AS embedded,
       (SELECT count(*) FROM lookalike.jobs j WHERE j.space_id = s.id) AS queued,
       (SELECT count(*) FROM lookalike.failures f WHERE f.space_id = s.id) AS failed,
       lookalike.live_workers(s.id) AS live_workers
FROM lookalike.embedding_spaces s
WHERE s.name = :'name';

-- name: spaces
-- The embedding spaces, with the fields of Space; optionally only the one with this name, or only the active one.
SELECT s.id, s.name, s.model, s.weights, s.preprocessing, s.fingerprint, s.dimensions, s.index_options,
       s.table_name::text, s.active, s.created_at, s.encoded_dimensions
FROM lookalike.embedding_spaces s
WHERE (:'name'::text IS NULL OR s.name = :'name'::text)
  AND (NOT :'active_only'::boolean OR s.active)
ORDER BY s.id;

-- name: writers_before
-- Return whether a transaction that may write and was running at `snapshot` still runs.
SELECT EXISTS (
    SELECT FROM unnest(ARRAY(SELECT pg_snapshot_xip(:'snapshot'::pg_snapshot))) AS x (xid)
    WHERE pg_xact_status(x.xid) = 'in progress'
);
