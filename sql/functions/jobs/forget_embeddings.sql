-- Internal: delete the embeddings of these images in every space.
CREATE OR REPLACE FUNCTION lookalike.forget_embeddings(image_ids bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    space_table text;
BEGIN
    FOR space_table IN SELECT s.table_name FROM lookalike.embedding_spaces s ORDER BY s.id LOOP
        EXECUTE format('DELETE FROM lookalike.%I WHERE image_id = ANY ($1)', space_table) USING image_ids;
    END LOOP;
END
$$;
