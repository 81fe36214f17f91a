-- The first 500 characters of the text in `value`, which is `attributes -> 'NAME'`; NULL for anything else, so it never
-- raises. Inlined; attribute indexes are built on it, and 500 characters always fit into a btree. Compared with a literal
-- of fewer than 500 characters the answer is that of the whole text; filters write longer literals another way.
CREATE OR REPLACE FUNCTION lookalike.attribute_text(value jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(value) WHEN 'string' THEN left(value #>> '{}', 500) END;
