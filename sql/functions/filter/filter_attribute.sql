-- Internal: return the SQL condition of one positive operator on an attribute.
--
-- The operand has been checked. The condition is TRUE if the operator holds, else FALSE or NULL.

-- Equality and containment have two forms of the same meaning: `@>` for the GIN index on attributes, which always
-- exists, and the typed expression if its attribute index is valid. Both joined by AND would let the planner
-- choose, but it multiplies their selectivities: it expected 3,561 rows of 25,000 when measured.
CREATE OR REPLACE FUNCTION lookalike.filter_attribute(path text[], operator text, operand jsonb, place text)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    operand_type text := jsonb_typeof(operand);
    value text := lookalike.attribute_expression(path, NULL);
    literal text := quote_literal(operand #>> '{}');
    signs jsonb := '{"$eq": "=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">=", "$startswith": "^@"}';
    kind text;
BEGIN
    IF operator = '$exists' THEN
        RETURN value || CASE WHEN operand::boolean THEN ' IS NOT NULL' ELSE ' IS NULL' END;
    ELSIF operator = '$eq' AND operand_type = 'null' THEN
        RETURN format('coalesce(%s, ''null''::jsonb) = ''null''::jsonb', value);
    ELSIF operator = '$eq' AND operand_type IN ('array', 'object') THEN
        RETURN format('%s = %L::jsonb', value, operand);
    ELSIF operator = '$in' THEN
        RETURN lookalike.filter_attribute_in(path, operand);
    ELSIF operator = '$contains' THEN
        RETURN lookalike.filter_attribute_contains(path, operand);
    END IF;

    kind := CASE operand_type WHEN 'number' THEN 'numeric' WHEN 'boolean' THEN 'boolean' ELSE 'text' END;
    IF operator = '$eq' THEN
        IF lookalike.filter_fits_index(operand) AND lookalike.attribute_indexed(path, kind) THEN
            RETURN format('%s = %s::%s', lookalike.attribute_expression(path, kind), literal, kind);
        END IF;
        RETURN format('i.attributes @> %L::jsonb', lookalike.filter_nested(path, operand));
    END IF;

    IF operator <> '$startswith' AND lookalike.filter_dated(operand) THEN
        RETURN format('%s %s %s', lookalike.attribute_expression(path, 'timestamp'), signs ->> operator,
                      lookalike.filter_moment(operator, operand, place));
    ELSIF kind = 'text' AND NOT lookalike.filter_fits_index(operand) THEN
        RETURN format('(CASE jsonb_typeof(%s) WHEN ''string'' THEN %s #>> ''{}'' END) COLLATE "C" %s %s::text',
                      value, value, signs ->> operator, literal);
    END IF;
    RETURN format('%s %s %s::%s', lookalike.attribute_expression(path, kind), signs ->> operator, literal, kind);
END
$$;
