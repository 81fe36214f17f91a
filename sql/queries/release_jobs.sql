-- Gives up the lease on jobs; returns how many. See lookalike.release_jobs.
SELECT lookalike.release_jobs(:'space_id'::smallint, :'lease'::uuid, :'image_ids'::bigint[], :'delay_seconds'::float8,
                              :'unattempted'::boolean);
