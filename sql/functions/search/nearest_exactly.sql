-- Internal: return the rows nearest to a query by an exact scan, nearest first, ties by id.
--
-- The rows pass the filter, lie within max_distance and come after the position (after_distance, after_id); NULL
-- leaves a condition out. At most `most` rows. lookalike.within, search_page and search_grouped call it.

-- `+ 0` keeps the HNSW index out; OFFSET 0 makes it compute each distance once.
CREATE OR REPLACE FUNCTION lookalike.nearest_exactly(
    query halfvec, filter jsonb, max_distance float8, after_distance float8, after_id bigint, exclude bigint[], most bigint
) RETURNS TABLE (id bigint, distance float8)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off
AS $$
BEGIN
    RETURN QUERY EXECUTE format($sql$
        SELECT n.image_id, n.distance
        FROM (SELECT e.image_id, (e.embedding <-> $1) + 0 AS distance
              FROM lookalike.active_embeddings e %s OFFSET 0) n
        WHERE %s %s %s TRUE
        ORDER BY 2, 1 LIMIT $6
        $sql$,
        CASE WHEN filter <> '{}'
             THEN 'JOIN lookalike.images i ON i.id = e.image_id WHERE ' || lookalike.filter_condition(filter) END,
        CASE WHEN max_distance IS NOT NULL THEN 'n.distance <= $2 AND' END,
        CASE WHEN after_id IS NOT NULL THEN '(n.distance, n.image_id) > ($3, $4) AND' END,
        CASE WHEN exclude IS NOT NULL THEN 'n.image_id <> ALL ($5) AND' END)
    USING lookalike.query_unit(query), max_distance, after_distance, after_id, exclude, most;
END
$$;
