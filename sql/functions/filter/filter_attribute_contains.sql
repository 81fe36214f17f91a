-- Internal: return the SQL condition of $contains on an attribute.
--
-- It holds for an array that has the value, or every value of a list, as elements.
CREATE OR REPLACE FUNCTION lookalike.filter_attribute_contains(path text[], operand jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    elements jsonb := CASE jsonb_typeof(operand) WHEN 'array' THEN operand ELSE jsonb_build_array(operand) END;
    fits boolean;
    texts text[];
BEGIN
    SELECT bool_and(jsonb_typeof(e.element) = 'string' AND lookalike.filter_fits_index(e.element)),
           array_agg(e.element #>> '{}')
    INTO fits, texts
    FROM jsonb_array_elements(elements) AS e (element);
    IF fits IS NULL THEN
        RETURN format('jsonb_typeof(%s) = ''array''', lookalike.attribute_expression(path, NULL));
    ELSIF fits AND lookalike.attribute_indexed(path, 'text[]') THEN
        RETURN format('%s @> %L::text[]', lookalike.attribute_expression(path, 'text[]'), texts);
    END IF;
    RETURN format('i.attributes @> %L::jsonb', lookalike.filter_nested(path, elements));
END
$$;
