-- Writes embeddings and removes their jobs; returns the ids written. See lookalike.finish_jobs.
SELECT f.id
FROM lookalike.finish_jobs(:'space_id'::smallint, :'lease'::uuid, :'image_ids'::bigint[], :'embeddings'::halfvec[],
                           :'hashes'::bytea[], :'media_types'::text[], :'widths'::int[], :'heights'::int[]) AS f (id);
