-- The answer to a query image, embedding or reason, both NULL so far; and how many workers could give it. No row where
-- the question is forgotten. See lookalike.answer_of.
SELECT a.embedding, a.reason, lookalike.live_workers(:'space_id'::smallint) AS live_workers
FROM lookalike.answer_of(:'space_id'::smallint, :'sha'::bytea) a;
