-- Return a jsonb value as boolean, or NULL if it is anything else.
--
-- It never raises an error. Filters and attribute indexes use it on `attributes -> 'NAME'`.
--
-- Example:
--     SELECT count(*) FROM lookalike.images WHERE lookalike.attribute_boolean(attributes -> 'sold');

-- Simple enough to be inlined; attribute indexes are built on it.
CREATE OR REPLACE FUNCTION lookalike.attribute_boolean(value jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(value) WHEN 'boolean' THEN value::boolean END;
