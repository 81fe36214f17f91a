-- Return the k nearest images of which none is a near-duplicate of a nearer one.
--
-- Going outwards from the query, it drops a row within `threshold` (L2) of a row that it kept. The answer has
-- min(k, distinct rows) rows, as far as the 10,000 nearest rows reach. It costs a search for 3k rows, or more if
-- many are dropped, and one distance for each row and kept row.
--
-- Arguments:
--   threshold  distance below which two images count as duplicates
--
-- The other arguments are those of lookalike.search.
--
-- Example:
--     SELECT * FROM lookalike.search_distinct(lookalike.embedding_of(42), 10, threshold => 0.35);
CREATE OR REPLACE FUNCTION lookalike.search_distinct(
    query halfvec, k int DEFAULT 10, filter jsonb DEFAULT NULL, threshold float8 DEFAULT 0.35,
    max_distance float8 DEFAULT NULL, exclude bigint[] DEFAULT NULL, recall float8 DEFAULT 0.99
) RETURNS TABLE (id bigint, distance float8)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
#variable_conflict use_variable
DECLARE
    wanted int;
    seen int := 0;
    hit record;
    kept halfvec[];
    one halfvec;
    found_ids bigint[];
    found_distances float8[];
BEGIN
    PERFORM lookalike.check_range('k', k, 1, 10000), lookalike.check_range('threshold', threshold, 0, 2),
            lookalike.query_unit(query);
    wanted := least(3 * k, 10000);
    LOOP
        seen := 0;
        kept := '{}';
        found_ids := '{}';
        found_distances := '{}';
        <<candidates>>
        FOR hit IN
            SELECT s.id, s.distance, e.embedding
            FROM lookalike.search(query, k => wanted, filter => filter, max_distance => max_distance,
                                  exclude => exclude, recall => recall) s
            JOIN lookalike.active_embeddings e ON e.image_id = s.id
            ORDER BY s.distance, s.id
        LOOP
            seen := seen + 1;
            FOREACH one IN ARRAY kept LOOP
                CONTINUE candidates WHEN (one <-> hit.embedding) <= threshold;
            END LOOP;
            kept := array_append(kept, hit.embedding);
            found_ids := array_append(found_ids, hit.id);
            found_distances := array_append(found_distances, hit.distance);
            EXIT WHEN cardinality(found_ids) = k;
        END LOOP;
        EXIT WHEN cardinality(found_ids) = k OR seen < wanted OR wanted = 10000;
        wanted := least(4 * wanted, 10000);
    END LOOP;
    RETURN QUERY SELECT * FROM unnest(found_ids, found_distances);
END
$$;
