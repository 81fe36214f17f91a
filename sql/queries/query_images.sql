-- name: answer_of
-- The embedding of a query image or the reason for its failure, both NULL while it is pending, and the number of live
-- workers. No row if the request is gone; see lookalike.answer_of.
SELECT a.embedding, a.reason, lookalike.live_workers(:'space_id'::smallint) AS live_workers
FROM lookalike.answer_of(:'space_id'::smallint, :'sha'::bytea) a;

-- name: ask_embedding
-- Request a query image's embedding. Returns the embedding if it is stored already, and the number of live workers; see
-- lookalike.ask_embedding.
SELECT lookalike.ask_embedding(:'space_id'::smallint, :'image'::bytea) AS embedding,
       lookalike.live_workers(:'space_id'::smallint) AS live_workers;

-- name: claim_queries
-- Claim pending query images of a space, with the fields of QueryImage; see lookalike.claim_queries.
SELECT c.sha256, c.image, c.waited
FROM lookalike.claim_queries(:'space_id'::smallint, :'most'::int, :'lease_seconds'::float8) c;
