-- Return the k images nearest to a stored one, without that image, nearest first, ties by id.
--
-- Arguments:
--   image_id  the stored image
--
-- The other arguments and the answer are those of lookalike.search. Raises P0002 if the image does not exist or is
-- not embedded yet, and 22023 if an argument is not valid.
--
-- Example:
--     SELECT s.id, s.distance, i.uri
--     FROM lookalike.similar(42, 10, '{"category": "animals"}') s
--     JOIN lookalike.images i USING (id) ORDER BY s.distance, s.id;
CREATE OR REPLACE FUNCTION lookalike.similar(
    image_id bigint, k int DEFAULT 10, filter jsonb DEFAULT NULL, max_distance float8 DEFAULT NULL,
    exclude bigint[] DEFAULT NULL, recall float8 DEFAULT 0.99, ef_search int DEFAULT NULL, strategy text DEFAULT 'auto'
) RETURNS TABLE (id bigint, distance float8)
LANGUAGE sql STABLE
AS $$
    SELECT u.id, u.distance
    FROM lookalike.search_run(lookalike.embedding_of(image_id), k, filter, max_distance,
                              array_append(exclude, image_id), recall, ef_search, strategy, false) r,
         unnest(r.ids, r.distances) AS u (id, distance)
$$;
