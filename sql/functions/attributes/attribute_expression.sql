-- The SQL expression of an attribute: as jsonb where `kind` is NULL, else as numeric, text, boolean, timestamp or text[],
-- which is what the attribute index of that type is built on. `qualifier` is the table's alias with its dot, or ''.
-- Filters and indexes both come from here, since the planner wants them equal to the letter.
CREATE OR REPLACE FUNCTION lookalike.attribute_expression(path text[], kind text, qualifier text DEFAULT 'i.')
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    value text := qualifier || 'attributes';
    step text;
BEGIN
    -- quote_literal writes a backslash as E'\\', so the text means the same whatever standard_conforming_strings is.
    FOREACH step IN ARRAY path LOOP
        value := value || ' -> ' || quote_literal(step) || '::text';
    END LOOP;
    RETURN CASE kind
        WHEN 'numeric' THEN 'lookalike.attribute_numeric(' || value || ')'
        WHEN 'text' THEN 'lookalike.attribute_text(' || value || ') COLLATE "C"'
        WHEN 'boolean' THEN 'lookalike.attribute_boolean(' || value || ')'
        WHEN 'timestamp' THEN 'lookalike.attribute_timestamp(' || value || ')'
        WHEN 'text[]' THEN 'lookalike.attribute_texts(' || value || ')'
        ELSE '(' || value || ')'
    END;
END
$$;
