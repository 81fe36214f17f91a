-- Internal: raise P0002 for an image without an embedding in the active space.
--
-- The message distinguishes an image that does not exist from one that waits to be embedded.
CREATE OR REPLACE FUNCTION lookalike.search_no_embedding(image_id bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    space lookalike.embedding_spaces := lookalike.active_space();
BEGIN
    IF image_id IS NULL THEN
        RAISE EXCEPTION 'the image id is NULL' USING ERRCODE = '22004';
    ELSIF EXISTS (SELECT FROM lookalike.images i WHERE i.id = search_no_embedding.image_id) THEN
        RAISE EXCEPTION 'image % has no embedding in space % yet', image_id, space.name
            USING ERRCODE = 'P0002', HINT = 'A running "lookalike worker" embeds it; '
                'lookalike.failures says why, if it could not.';
    END IF;
    RAISE EXCEPTION 'there is no image %', image_id USING ERRCODE = 'P0002';
END
$$;
