-- Return the k images whose caption and attributes match words best, by index; the best first, ties by id.
--
-- It also finds images that are not embedded yet. All words must occur; "quoted words" occur side by side; `or`
-- and `-` work as on the web; tea* matches words that begin with tea. It costs the ranking of every image that has
-- the words.
--
-- Arguments:
--   words   what to search for
--   k       how many
--   filter  conditions in the JSON filter grammar; NULL for none
--
-- Columns:
--   id     the image
--   score  cover density of ts_rank_cd, in which a word of the caption counts 1 and one of the attributes 0.4
--
-- Raises 22023 if `words` has no word.
--
-- Example:
--     SELECT s.id, s.score, i.caption FROM lookalike.search_text('animals or tea*', 5) s JOIN lookalike.images i USING (id);
CREATE OR REPLACE FUNCTION lookalike.search_text(words text, k int DEFAULT 10, filter jsonb DEFAULT NULL)
RETURNS TABLE (id bigint, score float8)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off
AS $$
BEGIN
    PERFORM lookalike.check_range('k', k, 1, 10000);
    RETURN QUERY EXECUTE format($sql$
        SELECT i.id, ts_rank_cd(lookalike.image_document(i.caption, i.attributes), $1)::float8
        FROM lookalike.images i
        WHERE lookalike.image_document(i.caption, i.attributes) @@ $1 AND (%s)
        ORDER BY 2 DESC, 1 LIMIT $2
        $sql$, lookalike.filter_condition(filter)) USING lookalike.text_query(words), k;
END
$$;
