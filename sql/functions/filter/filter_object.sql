-- Internal: return the SQL condition of a filter object, all keys of which must hold.
--
-- `place` is the position of the object in the filter, '' at the top.
CREATE OR REPLACE FUNCTION lookalike.filter_object(filter jsonb, place text, depth int) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    conditions text[] := '{}';
    branches text[];
    name text;
    test jsonb;
    below text;
    pairs jsonb;
BEGIN
    IF depth > 32 THEN
        RAISE EXCEPTION 'the filter nests more than 32 levels deep at %', left(place, 200) USING ERRCODE = '22023';
    ELSIF jsonb_typeof(filter) <> 'object' THEN
        RAISE EXCEPTION 'the filter% has to be an object such as {"price": {"$lt": 100}}, got %',
            CASE WHEN place <> '' THEN ' at ' || left(place, 200) ELSE '' END, jsonb_typeof(filter)
            USING ERRCODE = '22023';
    END IF;
    -- Not SELECT ... FROM jsonb_each: an expression costs a fifth of a query.
    pairs := jsonb_path_query_array(filter, '$.keyvalue()');
    FOR position IN 0..jsonb_array_length(pairs) - 1 LOOP
        name := pairs -> position ->> 'key';
        test := pairs -> position -> 'value';
        below := concat_ws('.', nullif(place, ''), name);
        IF name IN ('$and', '$or') THEN
            IF jsonb_typeof(test) <> 'array' THEN
                RAISE EXCEPTION '% at % needs an array of filters, got %', name, left(below, 200), jsonb_typeof(test)
                    USING ERRCODE = '22023';
            END IF;
            branches := ARRAY(
                SELECT lookalike.filter_object(b.branch, format('%s[%s]', below, b.position - 1), depth + 1)
                FROM jsonb_array_elements(test) WITH ORDINALITY AS b (branch, position) ORDER BY b.position);
            conditions := conditions || CASE
                WHEN branches <> '{}' THEN
                    '(' || array_to_string(branches, CASE name WHEN '$or' THEN ' OR ' ELSE ' AND ' END) || ')'
                WHEN name = '$or' THEN 'FALSE'
                ELSE 'TRUE'
            END;
        ELSIF name = '$not' THEN
            conditions := conditions || format('%s IS NOT TRUE', lookalike.filter_object(test, below, depth + 1));
        ELSIF name LIKE '$%' THEN
            PERFORM lookalike.filter_operand(name, test, below);
            RAISE EXCEPTION '% at % needs the name of an attribute or column around it: {"price": {"%": ...}}',
                name, left(below, 200), name USING ERRCODE = '22023';
        ELSE
            conditions := conditions || lookalike.filter_field(name, test, below, depth + 1);
        END IF;
    END LOOP;
    RETURN CASE WHEN conditions = '{}' THEN 'TRUE' ELSE '(' || array_to_string(conditions, ' AND ') || ')' END;
END
$$;
