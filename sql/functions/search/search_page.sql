-- Return one page of a search: the k rows after a position, nearest first, ties by id.
--
-- The pages of an unchanged table together hold every matching row once, whatever their size. Each page, a deep
-- one too, costs one exact scan of the embeddings that pass the filter, because an index scan could miss a row
-- that no later page returns. Within one transaction, a cursor over lookalike.gallery costs less.
--
-- Arguments:
--   after_distance  distance of the last row of the page before; NULL for the first page
--   after_id        id of that row; NULL for the first page
--
-- The other arguments are those of lookalike.search. Raises 22023 if only one half of the position is given.
--
-- Example:
--     SELECT * FROM lookalike.search_page(lookalike.embedding_of(42), 10);
--     SELECT * FROM lookalike.search_page(lookalike.embedding_of(42), 10, after_distance => 0.9, after_id => 7);

-- A float8 keeps its value through text and JSON (17 digits), so a position may travel.
CREATE OR REPLACE FUNCTION lookalike.search_page(
    query halfvec, k int DEFAULT 10, filter jsonb DEFAULT NULL, after_distance float8 DEFAULT NULL,
    after_id bigint DEFAULT NULL, max_distance float8 DEFAULT NULL, exclude bigint[] DEFAULT NULL
) RETURNS TABLE (id bigint, distance float8)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM lookalike.check_range('k', k, 1, 10000);
    IF (after_distance IS NULL) <> (after_id IS NULL) THEN
        RAISE EXCEPTION 'after_distance is % and after_id is %: a position needs both',
            coalesce(after_distance::text, 'NULL'), coalesce(after_id::text, 'NULL') USING ERRCODE = '22023';
    ELSIF after_distance IS NOT NULL THEN
        PERFORM lookalike.check_range('after_distance', after_distance, 0, 'infinity');
    END IF;
    IF max_distance IS NOT NULL THEN
        PERFORM lookalike.check_range('max_distance', max_distance, 0, 'infinity');
    END IF;
    RETURN QUERY
    SELECT n.id, n.distance
    FROM lookalike.nearest_exactly(query, filter, max_distance, after_distance, after_id, exclude, k) n;
END
$$;
