-- Return the state of a query image that lookalike.ask_embedding queued: its embedding, or why there is none.
--
-- Both columns are NULL until a worker has answered.
--
-- Arguments:
--   for_space  the embedding space
--   digest     sha256 of the bytes
--
-- Columns:
--   embedding  the answer
--   reason     why the bytes could not be embedded
--
-- Example:
--     SELECT a.* FROM lookalike.active_space() s, lookalike.answer_of(s.id, sha256('...')) a;
CREATE OR REPLACE FUNCTION lookalike.answer_of(for_space smallint, digest bytea)
RETURNS TABLE (embedding halfvec, reason text)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT q.embedding, q.reason FROM lookalike.query_images q WHERE q.sha256 = digest AND q.space_id = for_space;
$$;
