-- Forgets a kept search that could not be checked. See lookalike.give_up_sample.
SELECT lookalike.give_up_sample(:'sample_id'::bigint, :'reason', :'seconds'::float8);
