-- Return the strings among the elements of a jsonb array, or NULL if the value is not one.
--
-- It never raises an error. Filters and attribute indexes use it on `attributes -> 'NAME'`. Each string is cut to
-- 500 characters so that a GIN index can store it.
--
-- Example:
--     SELECT id, uri FROM lookalike.images WHERE lookalike.attribute_texts(attributes -> 'tags') @> '{summer}';

-- Attribute indexes are built on it. It pins no search_path, because that would cost more than the function.
CREATE OR REPLACE FUNCTION lookalike.attribute_texts(value jsonb) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
    IF jsonb_typeof(value) = 'array' THEN
        RETURN ARRAY(
            SELECT left(e.element #>> '{}', 500)
            FROM jsonb_array_elements(value) AS e (element)
            WHERE jsonb_typeof(e.element) = 'string'
        );
    END IF;
    RETURN NULL;
END
$$;
