-- Moves the end of leases to `lease_seconds` from now, for jobs that are in work for long: parallel arrays of leases and
-- images. A job that another transaction holds just now is passed over.
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
