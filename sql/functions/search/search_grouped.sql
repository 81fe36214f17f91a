-- Return the best hit of each of the k nearest groups, nearest first.
--
-- Images with equal values of an attribute are a group. The answer has min(k, groups) rows. An image without the
-- attribute, or with null there, is in no group. Values with the same text (5 and "5") are one group. It reads
-- more and more of the nearest rows until they hold k groups, and all that pass the filter if 10,000 rows do not.
--
-- Arguments:
--   group_by  the attribute: product, or a nested path such as size.w
--
-- The other arguments are those of lookalike.search.
--
-- Columns:
--   group_value  value of the attribute
--   id           the nearest image of the group
--   distance     L2 distance to the query
--
-- Raises 22023 if group_by is NULL or not valid.
--
-- Example:
--     SELECT * FROM lookalike.search_grouped(lookalike.embedding_of(42), 'subcategory', 6);
CREATE OR REPLACE FUNCTION lookalike.search_grouped(
    query halfvec, group_by text, k int DEFAULT 10, filter jsonb DEFAULT NULL, max_distance float8 DEFAULT NULL,
    exclude bigint[] DEFAULT NULL, recall float8 DEFAULT 0.99
) RETURNS TABLE (group_value text, id bigint, distance float8)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
#variable_conflict use_variable
DECLARE
    path text[];
    wanted int;
    seen int;
    found_values text[];
    found_ids bigint[];
    found_distances float8[];
BEGIN
    PERFORM lookalike.check_range('k', k, 1, 10000);
    IF group_by IS NULL THEN
        RAISE EXCEPTION 'group_by is NULL; name an attribute, say product or size.w' USING ERRCODE = '22023';
    END IF;
    path := lookalike.attribute_path(group_by);
    wanted := least(4 * k, 10000);
    LOOP
        WITH nearest AS MATERIALIZED (
            SELECT s.id, s.distance
            FROM lookalike.search(query, k => greatest(wanted, 1), filter => filter, max_distance => max_distance,
                                  exclude => exclude, recall => recall) s
            WHERE wanted > 0
            UNION ALL
            SELECT s.id, s.distance
            FROM lookalike.nearest_exactly(query, filter, max_distance, NULL, NULL, exclude, NULL) s
            WHERE wanted = 0
        ), best AS (
            SELECT DISTINCT ON (1) i.attributes #>> path AS value, n.id, n.distance
            FROM nearest n JOIN lookalike.images i ON i.id = n.id
            WHERE i.attributes #>> path IS NOT NULL
            ORDER BY 1, n.distance, n.id
        ), nearest_groups AS (
            SELECT b.value, b.id, b.distance FROM best b ORDER BY b.distance, b.id LIMIT k
        )
        SELECT (SELECT count(*) FROM nearest), array_agg(g.value ORDER BY g.distance, g.id),
               array_agg(g.id ORDER BY g.distance, g.id), array_agg(g.distance ORDER BY g.distance, g.id)
        INTO seen, found_values, found_ids, found_distances
        FROM nearest_groups g;
        EXIT WHEN cardinality(found_ids) = k OR seen < wanted OR wanted = 0;
        wanted := CASE WHEN wanted = 10000 THEN 0 ELSE least(4 * wanted, 10000) END;  -- 0: all of them
    END LOOP;
    RETURN QUERY SELECT * FROM unnest(found_values, found_ids, found_distances);
END
$$;
