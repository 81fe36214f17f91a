-- The k images nearest to a stored one, which is itself left out; arguments and answer are those of lookalike.search.
-- Raises no_data_found (P0002) where the image is unknown or has no embedding yet.
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
