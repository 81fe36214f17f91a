-- About how many images there are, as the planner believes: exact enough to size a sample, and free; -1 where nobody has
-- looked yet.
SELECT c.reltuples::bigint FROM pg_class c WHERE c.oid = 'lookalike.images'::regclass;
