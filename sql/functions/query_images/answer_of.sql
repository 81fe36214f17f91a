-- The state of a query image asked for with lookalike.ask_embedding: the embedding, or the reason why there is none;
-- both NULL while no worker has answered.
CREATE OR REPLACE FUNCTION lookalike.answer_of(for_space smallint, digest bytea)
RETURNS TABLE (embedding halfvec, reason text)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT q.embedding, q.reason FROM lookalike.query_images q WHERE q.sha256 = digest AND q.space_id = for_space;
$$;
