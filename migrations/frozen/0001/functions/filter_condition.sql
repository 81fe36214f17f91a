-- Return the SQL condition of a filter over the alias `i` of lookalike.images.
--
-- Use it in dynamic SQL, because a condition is text. NULL and {} keep every row. The condition never raises an
-- error, whatever the rows hold. Each value is a quoted literal with a cast and each identifier comes from a fixed
-- list, so it is safe to execute.
--
-- Raises 22023 if the filter is malformed.
--
-- Example:
--     SELECT format('SELECT count(*) FROM lookalike.images i WHERE %s',
--                   lookalike.filter_condition('{"category": "animals"}'));

-- The grammar is that of docs/filters.md. Not immutable, because the form of the condition, though not its
-- meaning, depends on the attribute indexes. It pins the search_path for all the filter_ functions that it calls;
-- pinning it in each would double the cost.
CREATE OR REPLACE FUNCTION lookalike.filter_condition(filter jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN CASE WHEN filter IS NULL THEN 'TRUE' ELSE lookalike.filter_object(filter, '', 0) END;
END
$$;
