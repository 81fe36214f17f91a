-- What the active space's searches look for candidates in, which the embeddings themselves rank again: sign bits along
-- rotated axes, or principal components; NULL where the transform has no such form. Empty where the space searches its
-- embeddings. The types carry no length, as in lookalike.active_embeddings; the index below is used all the same.
CREATE OR REPLACE VIEW lookalike.active_candidates AS
SELECT NULL::bigint AS image_id, NULL::"bit" AS bits, NULL::halfvec AS reduced WHERE false;
