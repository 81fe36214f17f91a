-- Return all images within max_distance of a query embedding, nearest first, ties by id; exact, so none is missed.
--
-- It costs a scan of the embeddings that pass the filter (20,000 of 1280 dimensions: 17 ms). If a share of 0.99 of
-- the rows is enough, lookalike.search with max_distance is faster.
--
-- Arguments:
--   query         an embedding of the active space
--   max_distance  L2 between unit vectors, 0 to 2
--   filter        conditions in the JSON filter grammar; NULL for none
--   max_rows      maximum number of rows, 1 to 1,000,000
--   exclude       ids to leave out
--
-- Columns:
--   id        the image
--   distance  L2 distance to the query
--   complete  the same in every row: false if max_rows cut the answer off. No row at all is a complete answer
--
-- Raises 22023 if an argument is not valid.
--
-- Example:
--     SELECT id, distance FROM lookalike.within(lookalike.embedding_of(42), 0.9, '{"category": "animals"}');
CREATE OR REPLACE FUNCTION lookalike.within(
    query halfvec, max_distance float8, filter jsonb DEFAULT NULL, max_rows int DEFAULT 10000,
    exclude bigint[] DEFAULT NULL
) RETURNS TABLE (id bigint, distance float8, complete boolean)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM lookalike.check_range('max_distance', max_distance, 0, 'infinity'),
            lookalike.check_range('max_rows', max_rows, 1, 1000000);
    RETURN QUERY
    SELECT n.id, n.distance, count(*) OVER () <= max_rows
    FROM lookalike.nearest_exactly(query, filter, max_distance, NULL, NULL, exclude, max_rows + 1) n
    ORDER BY n.distance, n.id LIMIT max_rows;
END
$$;
