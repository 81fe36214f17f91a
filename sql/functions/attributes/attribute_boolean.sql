-- The boolean in `value`, which is `attributes -> 'NAME'`; NULL for anything else, so it never raises. Inlined; attribute
-- indexes are built on it.
CREATE OR REPLACE FUNCTION lookalike.attribute_boolean(value jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(value) WHEN 'boolean' THEN value::boolean END;
