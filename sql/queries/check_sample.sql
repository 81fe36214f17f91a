-- Checks one kept search. See lookalike.check_sample.
SELECT lookalike.check_sample(:'sample_id'::bigint);
