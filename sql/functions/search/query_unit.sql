-- Internal: return a query embedding scaled to unit length, as the stored ones are.
--
-- If the active space reduces embeddings, a query of the model's dimension is reduced too (lookalike.as_stored).
-- Raises 22023 if the query has another dimension than the space or is a zero vector, and 22004 if it is NULL.
CREATE OR REPLACE FUNCTION lookalike.query_unit(query halfvec) RETURNS halfvec
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    space lookalike.embedding_spaces := lookalike.active_space();
    norm float8 := l2_norm(query);
BEGIN
    IF query IS NULL THEN
        RAISE EXCEPTION 'the query embedding is NULL' USING ERRCODE = '22004';
    ELSIF vector_dims(query) <> space.dimensions AND vector_dims(query) IS DISTINCT FROM space.encoded_dimensions THEN
        RAISE EXCEPTION 'the query has % dimensions, but embedding space % has %',
            vector_dims(query), space.name, space.dimensions
            USING ERRCODE = '22023', HINT = 'Embed the query with the model of the active space.';
    ELSIF norm = 0 THEN
        RAISE EXCEPTION 'the query embedding is a zero vector, which has no direction' USING ERRCODE = '22023';
    END IF;
    IF vector_dims(query) <> space.dimensions THEN
        RETURN lookalike.as_stored(space, query);
    END IF;
    -- Stored embeddings are off by halfvec's rounding too; scaling those again would move them, and ties with them.
    RETURN CASE WHEN abs(norm - 1) > 1e-3 THEN l2_normalize(query) ELSE query END;
END
$$;
