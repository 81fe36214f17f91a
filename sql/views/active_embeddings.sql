-- Embeddings of the active space; empty until a space is active.
--
-- lookalike.activate_space replaces it.
--
-- Columns:
--   image_id   the image
--   embedding  unit-length vector
--
-- Example:
--     SELECT count(*) FROM lookalike.active_embeddings;

-- The type carries no dimension, so that a space of another dimension can take its place; the HNSW index below is
-- used all the same.
CREATE OR REPLACE VIEW lookalike.active_embeddings AS
SELECT NULL::bigint AS image_id, NULL::halfvec AS embedding WHERE false;
