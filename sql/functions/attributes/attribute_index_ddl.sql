-- The statement that builds the index of an attribute (a name as in filters: price, size.w) as numeric, text, boolean,
-- timestamp or text[]; to be run outside a transaction. Raises invalid_parameter_value for another type or a bad name.
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
