-- Set how many times deeper than set up the searches of a space go, and return the record of the change.
--
-- The record is a row of lookalike.recall_adjustments.
--
-- Arguments:
--   for_space  the embedding space
--   depth      1 to 100; 1 is as set up
--   why        reason to record
--
-- Raises 22023 if depth is out of range, and P0002 if there is no such space.
--
-- Example:
--     SELECT lookalike.set_search_depth(id, 1.5, 'recall below the goal') FROM lookalike.embedding_spaces WHERE active;
CREATE OR REPLACE FUNCTION lookalike.set_search_depth(for_space smallint, depth float8, why text DEFAULT 'asked for')
RETURNS lookalike.recall_adjustments
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
DECLARE
    before float8;
    written lookalike.recall_adjustments;
BEGIN
    IF depth IS NULL OR NOT depth BETWEEN 1 AND 100 THEN
        RAISE EXCEPTION 'search depth is %, but must be 1 to 100', coalesce(depth::text, 'NULL') USING ERRCODE = '22023';
    END IF;
    SELECT coalesce((s.index_options ->> 'search_depth')::float8, 1) INTO before
    FROM lookalike.embedding_spaces s WHERE s.id = for_space FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no embedding space % any more', for_space USING ERRCODE = 'P0002';
    END IF;
    UPDATE lookalike.embedding_spaces s
    SET index_options = s.index_options || jsonb_build_object('search_depth', depth) WHERE s.id = for_space;
    INSERT INTO lookalike.recall_adjustments (space_id, from_depth, to_depth, reason)
    VALUES (for_space, before, depth, why) RETURNING * INTO written;
    RETURN written;
END
$$;
