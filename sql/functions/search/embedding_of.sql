-- The stored embedding of an image in the active space. STABLE, so that ORDER BY embedding <-> embedding_of(42) is
-- evaluated once and served by the HNSW index. Raises no_data_found (P0002) for an image unknown or not yet embedded.
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
