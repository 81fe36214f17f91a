-- Internal: return an embedding in the form that this space stores.
--
-- If the space has a transform (lookalike.derive_space) and the embedding has the dimension of the model, it is
-- reduced to unit length. Others, and NULL, are returned as they are.
CREATE OR REPLACE FUNCTION lookalike.as_stored(space lookalike.embedding_spaces, embedding halfvec) RETURNS halfvec
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
    IF space.transform_id IS NULL OR embedding IS NULL OR vector_dims(embedding) <> space.encoded_dimensions THEN
        RETURN embedding;
    END IF;
    RETURN l2_normalize(lookalike.transformed(space.transform_id, 'reduced', embedding))::halfvec;
END
$$;
