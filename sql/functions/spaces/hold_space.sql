-- The active embedding space, which stays the active one until this transaction ends. With `expected`, the id of the space
-- that query embeddings were made in: raises LK003 where another one is active by now, since numbers alone do not tell
-- whose they are, and two models may have the same dimension. In one statement, or first in a transaction of several:
--     SELECT r.* FROM lookalike.hold_space(3::smallint) s CROSS JOIN LATERAL lookalike.search($1, 10) r;
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
