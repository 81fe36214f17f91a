-- Return the SQL condition of a filter over the alias `i` of lookalike.images.
--
-- Use it in dynamic SQL, because a condition is text. NULL and {} keep every row. The condition never raises an
-- error, whatever the rows hold. Each value is a quoted literal with a cast and each identifier comes from a fixed
-- list, so it is safe to execute.
--
-- Raises 22023 if the filter is malformed or has more than 2,000 keys.
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
DECLARE
    keys int;
BEGIN
    -- Only a filter of some kilobytes can hold so many; counting costs more than most filters.
    IF pg_column_size(filter) > 8000 THEN
        keys := jsonb_array_length(jsonb_path_query_array(filter, 'strict $.** ? (@.type() == "object").keyvalue()'));
        IF keys > 2000 THEN
            RAISE EXCEPTION 'the filter has % keys; at most 2000 are allowed', keys
                USING ERRCODE = '22023', HINT = 'Values of one attribute go into a list: {"sku": {"$in": [...]}}.';
        END IF;
    END IF;
    RETURN CASE WHEN filter IS NULL THEN 'TRUE' ELSE lookalike.filter_object(filter, '', 0) END;
END
$$;
