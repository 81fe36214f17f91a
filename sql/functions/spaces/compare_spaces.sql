-- Compares two spaces on images that both hold, `sample` of them, the same ones for the same seed: one row an image, with
-- the share of its k neighbours that the two spaces have in common, the mean distance of those k in each, and, where
-- `label` names an attribute that the image has, the share of the k with the same value in each; then the k themselves in
-- each, nearest first.
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
