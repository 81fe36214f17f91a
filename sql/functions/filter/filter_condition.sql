-- The SQL condition of a filter, over the alias `i` of lookalike.images, for
--     EXECUTE format('SELECT ... FROM lookalike.images i WHERE %s', lookalike.filter_condition(filter))
-- The grammar is that of docs/filters.md; NULL and {} keep every row. The condition never raises whatever the rows hold.
-- Every value of the filter is a quoted literal with a cast, every identifier comes from a fixed list. A malformed filter
-- raises invalid_parameter_value. Not immutable, since the condition's form depends on which attribute indexes there are;
-- its meaning does not.
-- The search_path is pinned here for all the filter_ functions below; pinning it in each would double the cost.
CREATE OR REPLACE FUNCTION lookalike.filter_condition(filter jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN CASE WHEN filter IS NULL THEN 'TRUE' ELSE lookalike.filter_object(filter, '', 0) END;
END
$$;
