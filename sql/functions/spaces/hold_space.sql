-- Return the active embedding space, which stays active until this transaction ends.
--
-- Pass the id of the space that a query embedding was made in: the function raises LK003 if another space is
-- active now. Numbers alone do not show which model made them, and two models may have the same dimension. Call it
-- in the same statement as the search, or first in a transaction of several.
--
-- Arguments:
--   expected  id of the space of the query embedding; NULL for any
--
-- Raises LK003 if another space is active, and 55000 if none is.
--
-- Example:
--     SELECT r.* FROM lookalike.hold_space(1::smallint) s
--     CROSS JOIN LATERAL lookalike.search(lookalike.embedding_of(42), 10) r;
CREATE OR REPLACE FUNCTION lookalike.hold_space(expected smallint DEFAULT NULL) RETURNS lookalike.embedding_spaces
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    space lookalike.embedding_spaces := lookalike.active_space();
BEGIN
    IF expected <> space.id THEN
        RAISE EXCEPTION 'the query was embedded in space %, but the active one is % by now',
            coalesce((SELECT s.name FROM lookalike.embedding_spaces s WHERE s.id = expected), expected::text), space.name
            USING ERRCODE = 'LK003', HINT = 'Embed it again.';
    END IF;
    RETURN space;
END
$$;
