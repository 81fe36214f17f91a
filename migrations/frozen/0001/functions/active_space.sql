-- The active embedding space; raises object_not_in_prerequisite_state where there is none.
CREATE OR REPLACE FUNCTION lookalike.active_space() RETURNS lookalike.embedding_spaces
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    found_space lookalike.embedding_spaces;
BEGIN
    SELECT * INTO found_space FROM lookalike.embedding_spaces s WHERE s.active;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no embedding space is active'
            USING ERRCODE = '55000', HINT = 'The first "lookalike worker" creates and activates one.';
    END IF;
    RETURN found_space;
END
$$;
