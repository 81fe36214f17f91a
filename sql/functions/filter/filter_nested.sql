-- Internal: return the document that has `value` at `path` and nothing else.
--
-- {size,w} and 3 give {"size": {"w": 3}}.
CREATE OR REPLACE FUNCTION lookalike.filter_nested(path text[], value jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    FOR position IN REVERSE cardinality(path)..1 LOOP
        value := jsonb_build_object(path[position], value);
    END LOOP;
    RETURN value;
END
$$;
