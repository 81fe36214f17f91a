-- Adds a worker's counts to those of all. See lookalike.add_latencies.
SELECT lookalike.add_latencies(:'space_ids'::smallint[], :'measures'::text[], :'buckets'::smallint[], :'counts'::bigint[],
                               :'seconds'::float8[]);
