-- Internal: candidates in which the active space's searches look first; their embeddings rank them again.
--
-- It is empty if the space searches its embeddings. lookalike.show_space replaces it.
--
-- Columns:
--   image_id  the image
--   bits      sign bits along rotated axes; NULL if the transform has none
--   reduced   principal components; NULL if the transform has none

-- The types carry no length, as in lookalike.active_embeddings; the index below is used all the same.
CREATE OR REPLACE VIEW lookalike.active_candidates AS
SELECT NULL::bigint AS image_id, NULL::"bit" AS bits, NULL::halfvec AS reduced WHERE false;
