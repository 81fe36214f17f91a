-- Internal: return the tsquery of what a user typed, in the syntax that lookalike.search_text describes.
--
-- Raises 22023 if there is no word in it.
CREATE OR REPLACE FUNCTION lookalike.text_query(words text) RETURNS tsquery
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    parsed tsquery;
    prefix text;
BEGIN
    parsed := websearch_to_tsquery('simple'::regconfig, regexp_replace(words, '[[:alnum:]_]+\*', ' ', 'g'));
    FOR prefix IN SELECT lower(m[1]) FROM regexp_matches(words, '([[:alnum:]_]+)\*', 'g') m LOOP
        IF numnode(parsed) > 0 THEN
            parsed := parsed && (quote_literal(prefix) || ':*')::tsquery;
        ELSE
            parsed := (quote_literal(prefix) || ':*')::tsquery;
        END IF;
    END LOOP;
    IF coalesce(numnode(parsed), 0) = 0 THEN
        RAISE EXCEPTION 'there is no word to search for in %', coalesce(to_json(left(words, 100))::text, 'NULL')
            USING ERRCODE = '22023';
    END IF;
    RETURN parsed;
END
$$;
