-- The number in `value`, which is `attributes -> 'NAME'`; NULL for anything else, so it never raises. Inlined; attribute
-- indexes are built on it. A number of 1,000 characters or more is NULL too: a btree could not store it.
CREATE OR REPLACE FUNCTION lookalike.attribute_numeric(value jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(value) = 'number' AND octet_length(value::text) < 1000 THEN value::numeric END;
