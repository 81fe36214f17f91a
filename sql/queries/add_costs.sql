-- Adds what a worker has spent to what all have. See lookalike.add_costs.
SELECT lookalike.add_costs(:'device', :'space_ids'::smallint[], :'measures'::text[], :'counts'::bigint[],
                           :'seconds'::float8[]);
