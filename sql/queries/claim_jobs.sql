-- Claims due jobs of a space, in the order of records.Job. See lookalike.claim_jobs.
SELECT c.image_id, c.uri, c.attempts, c.enqueued_at, c.suspect,
       extract(epoch FROM clock_timestamp() - c.enqueued_at)::float8 AS waited
FROM lookalike.claim_jobs(:'space_id'::smallint, :'lease'::uuid, :'most'::int, :'lease_seconds'::float8) c;
