-- Parks images as failures and removes their jobs; returns the ids parked. See lookalike.fail_jobs.
SELECT f.id
FROM lookalike.fail_jobs(:'space_id'::smallint, :'lease'::uuid, :'image_ids'::bigint[], :'steps'::text[],
                         :'reasons'::text[]) AS f (id);
