-- Return the query embedding that positive and negative examples stand for, scaled to unit length.
--
-- It is mean(like) - unlike_weight * mean(unlike): Rocchio's relevance feedback without a first query (Rocchio
-- 1971; Manning, Raghavan, Schütze 2008, section 9.1.1, whose 0.15 to 0.75 is the default weight of 0.2).
--
-- Arguments:
--   like               ids of positive examples
--   unlike             ids of negative examples
--   like_embeddings    positive examples as embeddings of the active space
--   unlike_embeddings  negative examples as embeddings of the active space
--   unlike_weight      how strongly negative examples count
--
-- Raises P0002 for an id that does not exist or is not embedded, and 22023 without a positive example or if the
-- examples cancel out.
--
-- Example:
--     SELECT * FROM lookalike.within(lookalike.example_query(like => '{42,43}', unlike => '{100}'), 0.9);
CREATE OR REPLACE FUNCTION lookalike.example_query(
    "like" bigint[] DEFAULT NULL, unlike bigint[] DEFAULT NULL, like_embeddings halfvec[] DEFAULT NULL,
    unlike_embeddings halfvec[] DEFAULT NULL, unlike_weight float8 DEFAULT 0.2
) RETURNS halfvec
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    liked vector;
    unliked vector;
BEGIN
    PERFORM lookalike.check_range('unlike_weight', unlike_weight, 0, 100);
    -- In single precision, since halfvec would round the sum.
    SELECT avg(e.embedding::vector) INTO liked
    FROM (SELECT lookalike.embedding_of(u.id) FROM unnest("like") AS u (id)
          UNION ALL SELECT lookalike.query_unit(u.embedding) FROM unnest(like_embeddings) AS u (embedding)) e (embedding);
    SELECT avg(e.embedding::vector) INTO unliked
    FROM (SELECT lookalike.embedding_of(u.id) FROM unnest(unlike) AS u (id)
          UNION ALL SELECT lookalike.query_unit(u.embedding) FROM unnest(unlike_embeddings) AS u (embedding)) e (embedding);
    IF liked IS NULL THEN
        RAISE EXCEPTION 'there is no positive example; give an id in "like" or an embedding in like_embeddings'
            USING ERRCODE = '22023';
    END IF;
    IF unliked IS NOT NULL THEN
        liked := liked - unliked * array_fill(unlike_weight, ARRAY[vector_dims(unliked)])::vector;
    END IF;
    IF vector_norm(liked) < 1e-3 THEN
        RAISE EXCEPTION 'the examples cancel out: what is left of them has no direction'
            USING ERRCODE = '22023', HINT = 'Give other examples, or a smaller unlike_weight.';
    END IF;
    RETURN l2_normalize(liked)::halfvec;
END
$$;
