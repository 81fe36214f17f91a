-- Internal: return whether a valid attribute index of this path and type exists.
CREATE OR REPLACE FUNCTION lookalike.attribute_indexed(path text[], kind text) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    -- Names are made of letters that need no quotes. Through the system cache, for this is asked for every equality.
    index_oid oid := to_regclass('lookalike.' || lookalike.attribute_index_name(path, kind));
BEGIN
    RETURN index_oid IS NOT NULL AND EXISTS (SELECT FROM pg_index x WHERE x.indexrelid = index_oid AND x.indisvalid);
END
$$;
