-- Forgets kept searches and checks that are too old. See lookalike.forget_recall.
SELECT lookalike.forget_recall(:'sample_seconds'::float8);
