-- Compare two spaces on a sample of the images that both hold, one row per image.
--
-- Arguments:
--   first_space   an embedding space
--   second_space  the other one
--   k             how many neighbours to compare, 1 to 1,000
--   sample        how many images
--   label         an attribute; neighbours with the same value count as right
--   seed          the same seed gives the same images
--
-- Columns:
--   image_id          the image
--   overlap           share of its k neighbours that both spaces have in common
--   first_distance    mean distance of the neighbours in the first space
--   second_distance   mean distance of the neighbours in the second space
--   first_precision   share of the neighbours in the first space with the same label; NULL without a label
--   second_precision  share of the neighbours in the second space with the same label; NULL without a label
--   first_ids         neighbours in the first space, nearest first
--   second_ids        neighbours in the second space, nearest first
--
-- Raises P0002 if there is no such space.
--
-- Example:
--     SELECT avg(overlap) FROM lookalike.compare_spaces('tf_efficientnet_lite0', 'tf_efficientnet_lite0', sample => 20);
CREATE OR REPLACE FUNCTION lookalike.compare_spaces(
    first_space text, second_space text, k int DEFAULT 10, sample int DEFAULT 100, label text DEFAULT NULL,
    seed text DEFAULT ''
) RETURNS TABLE (image_id bigint, overlap float8, first_distance float8, second_distance float8,
                 first_precision float8, second_precision float8, first_ids bigint[], second_ids bigint[])
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
#variable_conflict use_column
DECLARE
    one lookalike.embedding_spaces := lookalike.space_named(first_space);
    two lookalike.embedding_spaces := lookalike.space_named(second_space);
BEGIN
    PERFORM lookalike.check_range('k', k, 1, 1000), lookalike.check_range('sample', sample, 1, 100000);
    RETURN QUERY EXECUTE format($query$
        WITH sampled AS MATERIALIZED (
            SELECT a.image_id FROM lookalike.%1$I a JOIN lookalike.%2$I b USING (image_id)
            ORDER BY md5(a.image_id || $5) LIMIT $2
        )
        SELECT s.image_id, c.overlap, f.distance, g.distance, f.alike, g.alike, f.ids, g.ids
        FROM sampled s
        JOIN lookalike.images i ON i.id = s.image_id
        JOIN lookalike.%1$I a ON a.image_id = s.image_id
        JOIN lookalike.%2$I b ON b.image_id = s.image_id
        CROSS JOIN LATERAL (
            SELECT array_agg(n.id ORDER BY n.distance, n.id) AS ids, avg(n.distance) AS distance,
                   CASE WHEN i.attributes ? $6
                        THEN avg((m.attributes -> $6 = i.attributes -> $6 IS TRUE)::int)::float8 END AS alike
            FROM lookalike.nearest_in($3, a.embedding, $1, ARRAY[s.image_id]) n
            JOIN lookalike.images m ON m.id = n.id) f
        CROSS JOIN LATERAL (
            SELECT array_agg(n.id ORDER BY n.distance, n.id) AS ids, avg(n.distance) AS distance,
                   CASE WHEN i.attributes ? $6
                        THEN avg((m.attributes -> $6 = i.attributes -> $6 IS TRUE)::int)::float8 END AS alike
            FROM lookalike.nearest_in($4, b.embedding, $1, ARRAY[s.image_id]) n
            JOIN lookalike.images m ON m.id = n.id) g
        CROSS JOIN LATERAL (
            SELECT count(*)::float8 / nullif(cardinality(f.ids), 0) AS overlap
            FROM unnest(f.ids) x WHERE x = ANY (g.ids)) c
        $query$, one.table_name, two.table_name)
    USING k, sample, first_space, second_space, seed, label;
END
$$;
