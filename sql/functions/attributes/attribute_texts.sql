-- The texts among the elements of the array in `value`, which is `attributes -> 'NAME'`, each cut to 500 characters so that
-- a GIN index can store it; NULL where it is no array, so it never raises. Attribute indexes are built on it.
-- No pinned search_path: that would cost more than the function.
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
