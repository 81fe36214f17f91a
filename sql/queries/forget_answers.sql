-- Removes old query images; returns how many. See lookalike.forget_answers.
SELECT lookalike.forget_answers(:'age_seconds'::float8);
