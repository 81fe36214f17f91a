-- Return the k images nearest to positive and away from negative examples, without the examples themselves.
--
-- The formula is that of lookalike.example_query.
--
-- Arguments:
--   like               ids of positive examples
--   unlike             ids of negative examples
--   like_embeddings    positive examples as embeddings of the active space, say of uploaded images
--   unlike_embeddings  negative examples as embeddings of the active space
--   unlike_weight      how strongly negative examples count
--
-- The other arguments and the answer are those of lookalike.search. Raises the errors of lookalike.example_query
-- and lookalike.search.
--
-- Example:
--     SELECT * FROM lookalike.search_examples(like => '{42,43}', unlike => '{100}', k => 5);
CREATE OR REPLACE FUNCTION lookalike.search_examples(
    "like" bigint[] DEFAULT NULL, unlike bigint[] DEFAULT NULL, like_embeddings halfvec[] DEFAULT NULL,
    unlike_embeddings halfvec[] DEFAULT NULL, k int DEFAULT 10, filter jsonb DEFAULT NULL,
    max_distance float8 DEFAULT NULL, exclude bigint[] DEFAULT NULL, recall float8 DEFAULT 0.99,
    unlike_weight float8 DEFAULT 0.2
) RETURNS TABLE (id bigint, distance float8)
LANGUAGE sql STABLE
AS $$
    SELECT s.id, s.distance
    FROM lookalike.search(
        lookalike.example_query("like", unlike, like_embeddings, unlike_embeddings, unlike_weight), k => k,
        filter => filter, max_distance => max_distance,
        exclude => array_remove(array_cat(array_cat("like", unlike), exclude), NULL), recall => recall) s
$$;
