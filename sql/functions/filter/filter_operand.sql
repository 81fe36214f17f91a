-- Internal: raise 22023 if an operator is unknown or its operand has the wrong shape.
--
-- `place` is the position in the filter. The caller checks the types that a column needs.
CREATE OR REPLACE FUNCTION lookalike.filter_operand(operator text, operand jsonb, place text) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    got text := jsonb_typeof(operand);
    wanted text;
    inner_type text;
BEGIN
    CASE
        WHEN operator IN ('$eq', '$ne') THEN
            RETURN;
        WHEN operator IN ('$lt', '$lte', '$gt', '$gte') THEN
            wanted := CASE WHEN got NOT IN ('number', 'string') THEN 'a number or a string' END;
        WHEN operator = '$exists' THEN
            wanted := CASE WHEN got <> 'boolean' THEN 'true or false' END;
        WHEN operator = '$startswith' THEN
            wanted := CASE WHEN got <> 'string' THEN 'a string' END;
        WHEN operator = '$contains' THEN
            wanted := CASE WHEN got = 'object' THEN 'a value or an array of values' END;
        WHEN operator IN ('$in', '$nin') THEN
            wanted := CASE WHEN got <> 'array' THEN 'an array' END;
        ELSE
            RAISE EXCEPTION 'unknown filter operator % at %; known operators: $eq, $ne, $lt, $lte, $gt, $gte, $in, $nin,'
                ' $exists, $contains, $startswith, $not, and $and, $or, $not around whole filters',
                to_json(left(operator, 100)), left(place, 200) USING ERRCODE = '22023';
    END CASE;
    IF wanted IS NOT NULL THEN
        RAISE EXCEPTION '% at % needs %, got %', operator, left(place, 200), wanted,
            CASE got WHEN 'null' THEN '' WHEN 'array' THEN 'an ' WHEN 'object' THEN 'an ' ELSE 'a ' END || got USING ERRCODE = '22023';
    END IF;
    IF got = 'array' THEN
        SELECT jsonb_typeof(e.element) INTO inner_type
        FROM jsonb_array_elements(operand) AS e (element) WHERE jsonb_typeof(e.element) IN ('array', 'object') LIMIT 1;
        IF inner_type IS NOT NULL THEN
            RAISE EXCEPTION '% at % takes numbers, strings, booleans and null in its array, got an %',
                operator, left(place, 200), inner_type USING ERRCODE = '22023';
        ELSIF jsonb_array_length(operand) > 10000 THEN
            RAISE EXCEPTION '% at % has % values; at most 10000 are taken',
                operator, left(place, 200), jsonb_array_length(operand) USING ERRCODE = '22023';
        END IF;
    END IF;
END
$$;
