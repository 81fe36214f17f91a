-- Internal: return the SQL expression of an attribute.
--
-- Arguments:
--   path       keys from the top of `attributes` down
--   kind       numeric, text, boolean, timestamp or text[], the types of attribute indexes; NULL for jsonb
--   qualifier  alias of the table with its dot, or ''
--
-- Filters and indexes share it because the planner uses an index only if both expressions are equal.
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
