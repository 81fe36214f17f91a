-- Return the k images nearest to a query embedding in any space, active or not.
--
-- It uses the index of the space if there is one, with ef_search as lookalike.search has it for k. It serves to
-- compare spaces.
--
-- Arguments:
--   space_name  the embedding space
--   query       an embedding of that space
--   k           how many
--   exclude     ids to leave out
--
-- Raises P0002 if there is no such space, and 22023 if the query has another dimension.
--
-- Example:
--     SELECT * FROM lookalike.nearest_in('tf_efficientnet_lite0', lookalike.embedding_of(42), 10);
CREATE OR REPLACE FUNCTION lookalike.nearest_in(
    space_name text, query halfvec, k int DEFAULT 10, exclude bigint[] DEFAULT '{}'
) RETURNS TABLE (id bigint, distance float8)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET hnsw.iterative_scan = strict_order SET hnsw.ef_search = 200
AS $$
DECLARE
    space lookalike.embedding_spaces := lookalike.space_named(space_name);
BEGIN
    IF vector_dims(query) <> space.dimensions THEN
        RAISE EXCEPTION 'the query has % dimensions, but embedding space % has %',
            vector_dims(query), space.name, space.dimensions USING ERRCODE = '22023';
    END IF;
    PERFORM set_config('hnsw.ef_search', least(lookalike.search_ef(k, 0.99), 1000)::text, true);
    RETURN QUERY EXECUTE format(
        'SELECT e.image_id, e.embedding <-> $1 FROM lookalike.%I e WHERE e.image_id <> ALL ($3) '
        'ORDER BY e.embedding <-> $1 LIMIT $2', space.table_name) USING query, k, exclude;
END
$$;
