-- Makes this space the active one: the view active_embeddings, on which gallery, embedding_of, search and similar
-- stand, shows its table from the commit on. A statement sees one space or the other, never both.
CREATE OR REPLACE FUNCTION lookalike.activate_space(space_name text) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    chosen lookalike.embedding_spaces;
BEGIN
    SELECT * INTO chosen FROM lookalike.embedding_spaces s WHERE s.name = space_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no embedding space %', quote_literal(space_name)
            USING ERRCODE = 'P0002', HINT = 'SELECT name FROM lookalike.embedding_spaces lists them.';
    END IF;
    EXECUTE format(
        'CREATE OR REPLACE VIEW lookalike.active_embeddings AS '
        'SELECT e.image_id, e.embedding::halfvec AS embedding FROM lookalike.%I e', chosen.table_name);
    UPDATE lookalike.embedding_spaces s SET active = false WHERE s.active AND s.id <> chosen.id;
    UPDATE lookalike.embedding_spaces s SET active = true WHERE s.id = chosen.id;
END
$$;
