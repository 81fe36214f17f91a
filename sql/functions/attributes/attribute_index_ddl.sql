-- Return the statement that builds the index of an attribute.
--
-- Run the statement outside a transaction, because it builds CONCURRENTLY; in psql, \gexec does.
--
-- Arguments:
--   name  the attribute as filters name it: price, size.w
--   kind  numeric, text, boolean, timestamp or text[]
--
-- Raises 22023 if the type or the name is not valid.
--
-- Example:
--     SELECT lookalike.attribute_index_ddl('price', 'numeric');
CREATE OR REPLACE FUNCTION lookalike.attribute_index_ddl(name text, kind text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$
DECLARE
    path text[] := lookalike.attribute_path(name);
BEGIN
    IF kind IS NULL OR kind NOT IN ('numeric', 'text', 'boolean', 'timestamp', 'text[]') THEN
        RAISE EXCEPTION 'unknown attribute type %; known types: numeric, text, boolean, timestamp, text[]',
            coalesce(to_json(left(kind, 100))::text, 'NULL') USING ERRCODE = '22023';
    ELSIF strpos(name, '.') = 0 AND lookalike.filter_column_kind(name) IS NOT NULL THEN
        RAISE EXCEPTION '% is a column of images; the attribute of that name is %',
            to_json(name), to_json('attributes.' || name) USING ERRCODE = '22023';
    END IF;
    RETURN format(
        'CREATE INDEX CONCURRENTLY %I ON lookalike.images USING %s ((%s))',
        lookalike.attribute_index_name(path, kind),
        CASE kind WHEN 'text[]' THEN 'gin' ELSE 'btree' END,
        lookalike.attribute_expression(path, kind, ''));
END
$$;
