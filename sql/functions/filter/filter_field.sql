-- Internal: return the SQL condition of one key of a filter other than $and, $or and $not.
--
-- The key is a column of images or an attribute. `test` is a plain value (equality) or an object of operators, all
-- of which must hold. `place` is the position of the key in the filter, for error messages.
CREATE OR REPLACE FUNCTION lookalike.filter_field(name text, test jsonb, place text, depth int) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    column_kind text := lookalike.filter_column_kind(name);
    path text[] := CASE WHEN column_kind IS NULL THEN lookalike.attribute_path(name) END;
    positive text;
    condition text;
    conditions text[] := '{}';
    operator text;
    operand jsonb;
    pairs jsonb;
BEGIN
    IF depth > 32 THEN
        RAISE EXCEPTION 'the filter nests more than 32 levels deep at %', left(place, 200) USING ERRCODE = '22023';
    ELSIF jsonb_typeof(test) = 'array' THEN
        RAISE EXCEPTION 'an array at % needs an operator: $in (one of), $contains (all of) or $eq (exactly this array)',
            left(place, 200) USING ERRCODE = '22023';
    ELSIF test = '{}' THEN
        RAISE EXCEPTION 'the object at % has no operator; write {"$eq": {}} for an empty object', left(place, 200)
            USING ERRCODE = '22023';
    ELSIF jsonb_typeof(test) <> 'object' THEN
        test := jsonb_build_object('$eq', test);
    END IF;
    -- Not SELECT ... FROM jsonb_each: an expression costs a fifth of a query.
    pairs := jsonb_path_query_array(test, '$.keyvalue()');
    FOR position IN 0..jsonb_array_length(pairs) - 1 LOOP
        operator := pairs -> position ->> 'key';
        operand := pairs -> position -> 'value';
        IF operator NOT LIKE '$%' THEN
            RAISE EXCEPTION 'the object at % has the key % where an operator is wanted; write the nested path %',
                left(place, 200), to_json(left(operator, 100)), to_json(left(place || '.' || operator, 200))
                USING ERRCODE = '22023';
        ELSIF operator = '$not' THEN
            IF jsonb_typeof(operand) <> 'object' THEN
                RAISE EXCEPTION '$not at %.$not needs an object of operators, got %; $ne is for values',
                    left(place, 200), jsonb_typeof(operand) USING ERRCODE = '22023';
            END IF;
            condition := lookalike.filter_field(name, operand, place || '.$not', depth + 1);
        ELSE
            PERFORM lookalike.filter_operand(operator, operand, place || '.' || operator);
            positive := CASE operator WHEN '$ne' THEN '$eq' WHEN '$nin' THEN '$in' ELSE operator END;
            IF column_kind IS NULL THEN
                condition := lookalike.filter_attribute(path, positive, operand, place || '.' || operator);
            ELSE
                condition := lookalike.filter_column(name, positive, operand, place || '.' || operator);
            END IF;
        END IF;
        -- IS NOT TRUE, not NOT: what is NULL inside (a missing key, a wrong type) does not hold, so its negation does.
        conditions := conditions
            || CASE WHEN operator IN ('$not', '$ne', '$nin') THEN format('(%s) IS NOT TRUE', condition) ELSE condition END;
    END LOOP;
    RETURN '(' || array_to_string(conditions, ' AND ') || ')';
END
$$;
