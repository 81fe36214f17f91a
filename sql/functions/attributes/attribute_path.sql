-- Internal: return the path of an attribute's name: size.w is {size,w}.
--
-- In a key, a dot is written \. and a backslash \\. A leading `attributes.` is dropped. Raises 22023 for an empty
-- step or another use of the backslash.

-- Backslashes below are in E'' strings, which mean the same with any standard_conforming_strings.
CREATE OR REPLACE FUNCTION lookalike.attribute_path(name text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    path text[] := '{}';
    step text := '';
    letter text;
    escaped boolean := false;
BEGIN
    IF strpos(name, E'\\') = 0 THEN
        path := string_to_array(name, '.');
    ELSE
        FOREACH letter IN ARRAY string_to_array(name, NULL) LOOP
            IF escaped AND letter NOT IN ('.', E'\\') THEN
                RAISE EXCEPTION E'the attribute name % uses a backslash before %; only \\. and \\\\ are known',
                    to_json(left(name, 100)), to_json(letter) USING ERRCODE = '22023';
            ELSIF escaped OR letter NOT IN ('.', E'\\') THEN
                step := step || letter;
                escaped := false;
            ELSIF letter = E'\\' THEN
                escaped := true;
            ELSE
                path := path || step;
                step := '';
            END IF;
        END LOOP;
        IF escaped THEN
            RAISE EXCEPTION E'the attribute name % ends in a backslash; a backslash in a key is written \\\\',
                to_json(left(name, 100)) USING ERRCODE = '22023';
        END IF;
        path := path || step;
    END IF;
    IF path[1] = 'attributes' THEN
        path := path[2:];
    END IF;
    IF path = '{}' OR '' = ANY (path) OR cardinality(path) > 32 THEN
        RAISE EXCEPTION 'the attribute name % has no key, an empty key or more than 32 keys; write NAME, attributes.NAME'
            ' or a nested path such as size.w', to_json(left(name, 100)) USING ERRCODE = '22023';
    END IF;
    RETURN path;
END
$$;
