-- Return a jsonb value as numeric, or NULL if it is not a number.
--
-- It never raises an error. Filters and attribute indexes use it on `attributes -> 'NAME'`. A number of 1,000
-- characters or more gives NULL, because a btree could not store it.
--
-- Example:
--     SELECT id, uri FROM lookalike.images WHERE lookalike.attribute_numeric(attributes -> 'brightness') > 150;

-- Simple enough to be inlined; attribute indexes are built on it.
CREATE OR REPLACE FUNCTION lookalike.attribute_numeric(value jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(value) = 'number' AND octet_length(value::text) < 1000 THEN value::numeric END;
