-- Asks for a query image's embedding: the embedding where it is known already, and how many workers could answer. See
-- lookalike.ask_embedding.
SELECT lookalike.ask_embedding(:'space_id'::smallint, :'image'::bytea) AS embedding,
       lookalike.live_workers(:'space_id'::smallint) AS live_workers;
