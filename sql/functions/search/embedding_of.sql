-- Return the stored embedding of an image in the active space.
--
-- ORDER BY embedding <-> lookalike.embedding_of(42) uses the HNSW index, because the function is STABLE and runs
-- once.
--
-- Raises P0002 if the image does not exist or is not embedded yet.
--
-- Example:
--     SELECT id, uri, embedding <-> lookalike.embedding_of(42) AS distance
--     FROM lookalike.gallery ORDER BY distance LIMIT 10;
CREATE OR REPLACE FUNCTION lookalike.embedding_of(image_id bigint) RETURNS halfvec
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$
DECLARE
    found_embedding halfvec;
BEGIN
    SELECT e.embedding INTO found_embedding
    FROM lookalike.active_embeddings e WHERE e.image_id = embedding_of.image_id;
    IF NOT FOUND THEN
        PERFORM lookalike.search_no_embedding(embedding_of.image_id);
    END IF;
    RETURN found_embedding;
END
$$;
