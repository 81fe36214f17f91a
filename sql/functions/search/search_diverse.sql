-- Return k images that are near the query and unlike each other, by maximal marginal relevance.
--
-- Of the `candidates` nearest rows, each turn takes the row with the greatest
--     lambda * similarity(row, query) - (1 - lambda) * greatest similarity(row, a row already taken)
-- Similarity is the cosine (Carbonell & Goldstein 1998). Ties go to the nearer row. It costs a search for the
-- candidates and k * candidates distances.
--
-- Arguments:
--   lambda      1 gives the order of lookalike.search; 0 considers diversity alone
--   candidates  how many rows to choose from; NULL: ten times k, at least 50
--
-- The other arguments are those of lookalike.search.
--
-- Columns:
--   rank      order in which the rows were taken
--   id        the image
--   distance  L2 distance to the query
--
-- Example:
--     SELECT rank, id, distance FROM lookalike.search_diverse(lookalike.embedding_of(42), 8, lambda => 0.4);
CREATE OR REPLACE FUNCTION lookalike.search_diverse(
    query halfvec, k int DEFAULT 10, lambda float8 DEFAULT 0.5, candidates int DEFAULT NULL, filter jsonb DEFAULT NULL,
    max_distance float8 DEFAULT NULL, exclude bigint[] DEFAULT NULL, recall float8 DEFAULT 0.99
) RETURNS TABLE (rank int, id bigint, distance float8)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
#variable_conflict use_variable
DECLARE
    ids bigint[];
    distances float8[];
    embeddings halfvec[];
    likeness float8[];  -- of each candidate to the nearest one taken; NULL once it is taken itself
    one halfvec;
    n int;
    best int;
    score float8;
    best_score float8;
BEGIN
    PERFORM lookalike.check_range('k', k, 1, 1000), lookalike.check_range('lambda', lambda, 0, 1),
            lookalike.query_unit(query);
    candidates := coalesce(candidates, greatest(10 * k, 50));
    PERFORM lookalike.check_range('candidates', candidates, k, 10000);
    SELECT array_agg(s.id ORDER BY s.distance, s.id), array_agg(s.distance ORDER BY s.distance, s.id),
           array_agg(e.embedding ORDER BY s.distance, s.id)
    INTO ids, distances, embeddings
    FROM lookalike.search(query, k => candidates, filter => filter, max_distance => max_distance, exclude => exclude,
                          recall => recall) s
    JOIN lookalike.active_embeddings e ON e.image_id = s.id;
    IF ids IS NULL THEN
        RETURN;
    END IF;
    likeness := array_fill(-1::float8, ARRAY[cardinality(ids)]);
    FOR turn IN 1 .. least(k, cardinality(ids)) LOOP
        best := NULL;
        best_score := NULL;
        FOR n IN 1 .. cardinality(ids) LOOP
            CONTINUE WHEN likeness[n] IS NULL;
            IF turn > 1 THEN
                likeness[n] := greatest(likeness[n], 1 - (embeddings[n] <-> one) ^ 2 / 2);
            END IF;
            score := lambda * (1 - distances[n] ^ 2 / 2)
                     - CASE WHEN turn = 1 THEN 0 ELSE (1 - lambda) * likeness[n] END;
            IF best IS NULL OR score > best_score THEN
                best := n;
                best_score := score;
            END IF;
        END LOOP;
        one := embeddings[best];
        likeness[best] := NULL;
        rank := turn;
        id := ids[best];
        distance := distances[best];
        RETURN NEXT;
    END LOOP;
END
$$;
