-- The active space's embeddings. Empty until a space is active; lookalike.activate_space replaces it. The type carries no
-- dimension, so that a space of another dimension can take its place; the HNSW index below is used all the same.
CREATE OR REPLACE VIEW lookalike.active_embeddings AS
SELECT NULL::bigint AS image_id, NULL::halfvec AS embedding WHERE false;
