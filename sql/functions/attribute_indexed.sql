-- Whether a valid attribute index of this path and type is there.
CREATE OR REPLACE FUNCTION lookalike.attribute_indexed(path text[], kind text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$
    SELECT EXISTS (
        SELECT FROM pg_class c JOIN pg_index x ON x.indexrelid = c.oid
        WHERE c.relnamespace = 'lookalike'::regnamespace
          AND c.relname = lookalike.attribute_index_name(path, kind)
          AND x.indisvalid
    );
$$;
