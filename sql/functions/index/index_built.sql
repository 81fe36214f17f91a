-- Internal: return when an ANN index was built and from how many rows.
--
-- The build records this in the comment of the index: {"built": {"at": ..., "rows": ...}}. NULL if something else
-- built it.
CREATE OR REPLACE FUNCTION lookalike.index_built(index_oid oid, OUT at timestamptz, OUT rows bigint)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    comment text := obj_description(index_oid, 'pg_class');
BEGIN
    IF comment LIKE '{"built"%' THEN
        at := comment::jsonb #>> '{built,at}';
        rows := comment::jsonb #>> '{built,rows}';
    END IF;
EXCEPTION WHEN data_exception THEN  -- somebody's own comment
    at := NULL;
    rows := NULL;
END
$$;
