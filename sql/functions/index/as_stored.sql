-- An embedding in the form that this space holds: one of the model's own dimension is reduced by the space's transform to
-- unit length, where it has one (lookalike.derive_space); any other comes back as it is. NULL stays NULL.
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
