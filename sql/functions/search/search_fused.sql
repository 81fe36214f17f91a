-- Return the k best images by look and by words together, by reciprocal rank fusion; the best first, ties by id.
--
-- Of the `candidates` best of each list, a row scores
--     weights[1] / (60 + rank by distance) + weights[2] / (60 + rank by words)
-- A list without the row adds nothing (Cormack, Clarke & Büttcher 2009).
--
-- Arguments:
--   query       an embedding of the active space
--   words       what to search for, as for lookalike.search_text
--   weights     of distance and of words
--   candidates  rows of each list; NULL: twice k, at least 100
--
-- The other arguments are those of lookalike.search.
--
-- Columns:
--   id          the image
--   score       sum of both parts
--   distance    NULL if the row is not among the nearest
--   text_score  NULL if the row is not among the best by words
--
-- Example:
--     SELECT * FROM lookalike.search_fused(lookalike.embedding_of(42), 'animals', 5, weights => '{1, 0.5}');
CREATE OR REPLACE FUNCTION lookalike.search_fused(
    query halfvec, words text, k int DEFAULT 10, filter jsonb DEFAULT NULL, weights float8[] DEFAULT '{1,1}',
    candidates int DEFAULT NULL, exclude bigint[] DEFAULT NULL, recall float8 DEFAULT 0.99
) RETURNS TABLE (id bigint, score float8, distance float8, text_score float8)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM lookalike.check_range('k', k, 1, 10000);
    candidates := coalesce(candidates, least(greatest(2 * k, 100), 10000));
    PERFORM lookalike.check_range('candidates', candidates, k, 10000);
    IF coalesce(cardinality(weights) <> 2 OR weights[1] IS NULL OR weights[2] IS NULL
                OR NOT (least(weights[1], weights[2]) >= 0 AND greatest(weights[1], weights[2]) < 'infinity'), true) THEN
        RAISE EXCEPTION 'weights are %, but must be two numbers of 0 or more', coalesce(weights::text, 'NULL')
            USING ERRCODE = '22023';
    END IF;
    RETURN QUERY
    SELECT coalesce(v.id, t.id), coalesce(weights[1] / (60 + v.place), 0) + coalesce(weights[2] / (60 + t.place), 0),
           v.distance, t.score
    FROM (SELECT s.id, s.distance, row_number() OVER (ORDER BY s.distance, s.id) AS place
          FROM lookalike.search(query, k => candidates, filter => filter, exclude => exclude, recall => recall) s) v
    FULL JOIN (SELECT s.id, s.score, row_number() OVER (ORDER BY s.score DESC, s.id) AS place
               FROM lookalike.search_text(words, candidates, filter) s
               WHERE s.id <> ALL (coalesce(exclude, '{}'))) t ON t.id = v.id
    ORDER BY 2 DESC, 1 LIMIT k;
END
$$;
