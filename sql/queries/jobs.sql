-- name: any_job
-- Return whether any of these spaces has a job, whether it is claimed or not and due or not.
SELECT EXISTS (SELECT FROM lookalike.jobs j WHERE j.space_id = ANY (:'space_ids'::smallint[]));

-- name: claim_jobs
-- Claim due jobs of a space, with the fields of Job; see lookalike.claim_jobs.
SELECT c.image_id, c.uri, c.attempts, c.enqueued_at, c.suspect,
       extract(epoch FROM clock_timestamp() - c.enqueued_at)::float8 AS waited
FROM lookalike.claim_jobs(:'space_id'::smallint, :'lease'::uuid, :'most'::int, :'lease_seconds'::float8) c;

-- name: fail_jobs
-- Store images as failures and remove their jobs. Returns the stored ids; see lookalike.fail_jobs.
SELECT f.id
FROM lookalike.fail_jobs(:'space_id'::smallint, :'lease'::uuid, :'image_ids'::bigint[], :'steps'::text[],
                         :'reasons'::text[]) AS f (id);

-- name: failures
-- Failures of one space or of all, latest first, with the fields of Failure.
SELECT f.image_id, s.name AS space, f.uri, f.step, f.reason, f.attempts::int, f.failed_at
FROM lookalike.failures f
JOIN lookalike.embedding_spaces s ON s.id = f.space_id
WHERE :'space_id'::smallint IS NULL OR f.space_id = :'space_id'::smallint
ORDER BY f.failed_at DESC, f.image_id
LIMIT :'most'::bigint;

-- name: finish_jobs
-- Write embeddings and remove their jobs. Returns the written ids; see lookalike.finish_jobs.
SELECT f.id
FROM lookalike.finish_jobs(:'space_id'::smallint, :'lease'::uuid, :'image_ids'::bigint[], :'embeddings'::halfvec[],
                           :'hashes'::bytea[], :'media_types'::text[], :'widths'::int[], :'heights'::int[]) AS f (id);

-- name: known_embeddings
-- The embeddings that a space has for these contents; see lookalike.known_embeddings.
SELECT k.sha256, k.embedding
FROM lookalike.known_embeddings(:'space_id'::smallint, :'hashes'::bytea[]) k;

-- name: renew_jobs
-- Extend leases to `lease_seconds` from now, given as parallel arrays of leases and images. Skips jobs that another
-- transaction has locked.
UPDATE lookalike.jobs j
SET available_at = clock_timestamp() + make_interval(secs => :'lease_seconds'::float8)
FROM (
    SELECT k.image_id, k.space_id
    FROM lookalike.jobs k
    JOIN unnest(:'leases'::uuid[], :'image_ids'::bigint[]) AS n (lease, image_id) USING (lease, image_id)
    WHERE k.space_id = :'space_id'::smallint
    FOR UPDATE OF k SKIP LOCKED
) mine
WHERE j.image_id = mine.image_id AND j.space_id = mine.space_id;
