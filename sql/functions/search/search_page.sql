-- A page of a search: the k rows that come next after the position (after_distance, after_id), which is that of the
-- last row of the page before; both NULL for the first page. Nearest first, ties by id. The pages of an unchanged table
-- together hold every matching row once: a row is before a position or after it, whatever the page size. A float8
-- keeps its value through text and JSON (17 digits), so that the position may travel.
-- Each page, also a deep one, costs one exact scan of the embeddings that pass the filter, since an index scan could
-- leave out a row that no later page would make good. Within one transaction a cursor over lookalike.gallery costs less.
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
