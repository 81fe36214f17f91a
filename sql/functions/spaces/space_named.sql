-- Internal: return the embedding space of this name; raise P0002 with a list of the spaces if there is none.
CREATE OR REPLACE FUNCTION lookalike.space_named(space_name text) RETURNS lookalike.embedding_spaces
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    chosen lookalike.embedding_spaces;
BEGIN
    SELECT * INTO chosen FROM lookalike.embedding_spaces s WHERE s.name = space_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no embedding space %', coalesce(quote_literal(space_name), 'NULL')
            USING ERRCODE = 'P0002', HINT = 'There are: '
                || coalesce((SELECT string_agg(s.name, ', ' ORDER BY s.id) FROM lookalike.embedding_spaces s), 'none yet');
    END IF;
    RETURN chosen;
END
$$;
