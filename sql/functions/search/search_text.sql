-- The k images whose caption and attributes fit words best, by index: the best first, ties by id. Also images not yet
-- embedded. Words are read as lookalike.text_query says; `score` is ts_rank_cd's cover density, where a caption's word
-- counts 1 and an attribute's 0.4. Costs the ranking of every image that has the words.
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
