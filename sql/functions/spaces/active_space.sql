-- Return the active embedding space, which stays active until this transaction ends.
--
-- Reading it locks out a switch. Raises 55000 if no space is active.
--
-- Example:
--     SELECT id, name, model, dimensions FROM lookalike.active_space();
CREATE OR REPLACE FUNCTION lookalike.active_space() RETURNS lookalike.embedding_spaces
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    found_space lookalike.embedding_spaces;
BEGIN
    -- The view comes first in the statement, so that it is locked before the function is looked at.
    SELECT s.* INTO found_space
    FROM (SELECT FROM lookalike.active_embeddings WHERE false) held
    RIGHT JOIN lookalike.embedding_spaces s ON true
    WHERE s.id = lookalike.active_space_id();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no embedding space is active'
            USING ERRCODE = '55000', HINT = 'The first "lookalike worker" creates and activates one.';
    END IF;
    RETURN found_space;
END
$$;
