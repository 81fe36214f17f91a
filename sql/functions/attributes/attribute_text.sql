-- Return the first 500 characters of a jsonb string, or NULL if the value is anything else.
--
-- It never raises an error. Filters and attribute indexes use it on `attributes -> 'NAME'`; 500 characters always
-- fit into a btree. Comparing the result with a literal of fewer than 500 characters gives the same as comparing
-- the whole text.
--
-- Example:
--     SELECT id, uri FROM lookalike.images WHERE lookalike.attribute_text(attributes -> 'category') = 'animals';

-- Simple enough to be inlined; attribute indexes are built on it. Filters write longer literals in another way.
CREATE OR REPLACE FUNCTION lookalike.attribute_text(value jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(value) WHEN 'string' THEN left(value #>> '{}', 500) END;
