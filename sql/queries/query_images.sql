-- name: answer_of
-- The answer to a query image, embedding or reason, both NULL so far; and how many workers could give it. No row where
-- the question is forgotten. See lookalike.answer_of.
SELECT a.embedding, a.reason, lookalike.live_workers(:'space_id'::smallint) AS live_workers
FROM lookalike.answer_of(:'space_id'::smallint, :'sha'::bytea) a;

-- name: ask_embedding
-- Asks for a query image's embedding: the embedding where it is known already, and how many workers could answer. See
-- lookalike.ask_embedding.
SELECT lookalike.ask_embedding(:'space_id'::smallint, :'image'::bytea) AS embedding,
       lookalike.live_workers(:'space_id'::smallint) AS live_workers;

-- name: claim_queries
-- Claims unanswered query images of a space, in the order of queries.QueryImage. See lookalike.claim_queries.
SELECT c.sha256, c.image, c.waited
FROM lookalike.claim_queries(:'space_id'::smallint, :'most'::int, :'lease_seconds'::float8) c;
