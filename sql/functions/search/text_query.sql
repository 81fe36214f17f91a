-- Internal: return the tsquery of what a user typed, in the syntax that lookalike.search_text describes.
--
-- Raises 22023 if there is no word in it.
CREATE OR REPLACE FUNCTION lookalike.text_query(words text) RETURNS tsquery
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    -- websearch_to_tsquery knows no prefixes: a word that ends in this mark stands for one until the rest is parsed.
    mark CONSTANT text := 'zqprefixqz';
    parsed tsquery := replace(
        websearch_to_tsquery('simple'::regconfig, regexp_replace(words, '([[:alnum:]_])\*', '\1' || mark, 'g'))::text,
        mark || '''', ''':*')::tsquery;
BEGIN
    IF coalesce(numnode(parsed), 0) = 0 THEN
        RAISE EXCEPTION 'there is no word to search for in %', coalesce(to_json(left(words, 100))::text, 'NULL')
            USING ERRCODE = '22023';
    END IF;
    RETURN parsed;
END
$$;
