-- name: compare_spaces
-- Two spaces compared on a sample of images. See lookalike.compare_spaces.
SELECT c.image_id, c.overlap, c.first_distance, c.second_distance, c.first_precision, c.second_precision,
       c.first_ids, c.second_ids
FROM lookalike.compare_spaces(:'first', :'second', :'k'::int, :'sample'::int, :'label', :'seed') c;

-- name: forget_jobs
-- Removes up to `most` jobs of a space that is about to be dropped, and that nobody holds just now; returns how many.
WITH gone AS (
    DELETE FROM lookalike.jobs j
    USING (SELECT k.image_id, k.space_id FROM lookalike.jobs k WHERE k.space_id = :'space_id'::smallint
           LIMIT :'most'::int FOR UPDATE SKIP LOCKED) d
    WHERE j.image_id = d.image_id AND j.space_id = d.space_id
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: hold_space
-- The active space's id and name, held until the transaction ends. See lookalike.hold_space.
SELECT s.id, s.name, s.fingerprint
FROM lookalike.hold_space(:'in_space'::smallint) s;

-- name: lock_holders
-- Which other sessions hold a lock on images or the active view, longest first: what a switch or a drop waits for.
SELECT format('%s (pid %s, %s, for %s s)', coalesce(nullif(a.application_name, ''), 'a session'), a.pid, a.state,
              round(extract(epoch FROM clock_timestamp() - a.xact_start)))
FROM pg_stat_activity a
WHERE a.pid <> pg_backend_pid() AND a.xact_start < clock_timestamp() - interval '100 ms'
  AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation'
              AND l.relation IN ('lookalike.images'::regclass, 'lookalike.active_embeddings'::regclass))
ORDER BY a.xact_start
LIMIT 5;

-- name: nearest_in
-- The ids and distances nearest to a query embedding in one space. See lookalike.nearest_in.
SELECT n.id, n.distance FROM lookalike.nearest_in(:'space', :'query'::halfvec, :'k'::int) n ORDER BY n.distance, n.id;

-- name: sample
-- Up to `most` searchable images, another selection for each `seed`: from a sample of the table's pages, `percent` of
-- them, so that the cost has a bound. The condition of a filter takes the place of TRUE below.
SELECT i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width, i.height, i.caption, i.attributes,
       i.created_at, i.updated_at
FROM lookalike.images i TABLESAMPLE SYSTEM (:'percent'::float4) REPEATABLE (:'seed'::int)
WHERE (/*filter*/ TRUE) AND EXISTS (SELECT FROM lookalike.active_embeddings e WHERE e.image_id = i.id)
ORDER BY hashint8extended(i.id, :'seed'::bigint)
LIMIT :'most'::bigint;

-- name: snapshot
-- This moment's snapshot, as text: which transactions are still running.
SELECT pg_current_snapshot()::text;

-- name: space_bytes
-- Bytes of the embeddings of a space, rows and indexes, and how many rows there are: counted to 100,000, estimated beyond.
SELECT pg_total_relation_size(format('lookalike.%I', s.table_name)::regclass) AS bytes,
       lookalike.count_about(s.table_name, 100000) AS rows
FROM lookalike.embedding_spaces s WHERE s.name = :'space';

-- name: space_counts
-- Exact counts of one space: images, embedded, queued, failed, and of the failed those that the active space has.
SELECT (SELECT count(*) FROM lookalike.images) AS images,
       lookalike.count_up_to(s.table_name, 9223372036854775807) AS embedded,
       (SELECT count(*) FROM lookalike.jobs j WHERE j.space_id = s.id) AS queued,
       (SELECT count(*) FROM lookalike.failures f WHERE f.space_id = s.id) AS failed,
       lookalike.live_workers(s.id) AS live_workers
FROM lookalike.embedding_spaces s
WHERE s.name = :'name';

-- name: spaces
-- The embedding spaces, in the order of records.Space; with a name, that one; with active_only, the active one.
SELECT s.id, s.name, s.model, s.weights, s.preprocessing, s.fingerprint, s.dimensions, s.index_options,
       s.table_name::text, s.active, s.created_at, s.encoded_dimensions
FROM lookalike.embedding_spaces s
WHERE (:'name'::text IS NULL OR s.name = :'name'::text)
  AND (NOT :'active_only'::boolean OR s.active)
ORDER BY s.id;

-- name: writers_before
-- Whether a transaction that had begun when `snapshot` was taken, and may write, still runs.
SELECT EXISTS (
    SELECT FROM unnest(ARRAY(SELECT pg_snapshot_xip(:'snapshot'::pg_snapshot))) AS x (xid)
    WHERE pg_xact_status(x.xid) = 'in progress'
);
