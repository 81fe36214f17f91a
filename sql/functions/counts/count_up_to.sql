-- Counts the rows of a relation of this schema, stopping at `most`: a count that stays cheap however long the queue.
-- `condition` is SQL of the caller's own, never a user's.
CREATE OR REPLACE FUNCTION lookalike.count_up_to(relation text, most bigint, condition text DEFAULT 'TRUE')
RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    counted bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM (SELECT FROM lookalike.%I WHERE %s LIMIT %s) capped', relation, condition, most)
    INTO counted;
    RETURN counted;
END
$$;
