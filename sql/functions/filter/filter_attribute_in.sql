-- Internal: return the SQL condition of $in on an attribute: equal to one of the values.
--
-- A null in the list also matches a missing key.
CREATE OR REPLACE FUNCTION lookalike.filter_attribute_in(path text[], operand jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    kind text;
    number_of bigint;
    one_type boolean;
    fits boolean;
    condition text;
BEGIN
    SELECT count(*), count(DISTINCT jsonb_typeof(e.element)) = 1, bool_and(lookalike.filter_fits_index(e.element)),
           CASE min(jsonb_typeof(e.element)) WHEN 'string' THEN 'text' WHEN 'number' THEN 'numeric' END
    INTO number_of, one_type, fits, kind
    FROM jsonb_array_elements(operand) AS e (element) WHERE jsonb_typeof(e.element) <> 'null';

    IF number_of = 0 THEN
        condition := 'FALSE';
    ELSIF one_type AND fits AND kind IS NOT NULL AND lookalike.attribute_indexed(path, kind) THEN
        SELECT format('%s = ANY (%L::%s[])', lookalike.attribute_expression(path, kind),
                      array_agg(e.element #>> '{}'), kind)
        INTO condition
        FROM jsonb_array_elements(operand) AS e (element) WHERE jsonb_typeof(e.element) <> 'null';
    ELSIF number_of <= 20 THEN
        SELECT format('i.attributes @> ANY (%L::jsonb[])', array_agg(lookalike.filter_nested(path, e.element)))
        INTO condition
        FROM jsonb_array_elements(operand) AS e (element) WHERE jsonb_typeof(e.element) <> 'null';
    ELSE
        -- Past a few values GIN's recheck, linear in their number, costs more than a hashed comparison of every row.
        SELECT format('%s = ANY (%L::jsonb[])', lookalike.attribute_expression(path, NULL), array_agg(e.element))
        INTO condition
        FROM jsonb_array_elements(operand) AS e (element) WHERE jsonb_typeof(e.element) <> 'null';
    END IF;
    IF number_of < jsonb_array_length(operand) THEN
        condition := format('(%s OR %s)', condition, lookalike.filter_attribute(path, '$eq', 'null', ''));
    END IF;
    RETURN condition;
END
$$;
