-- Size of each part of schema lookalike.
--
-- Parts are the table of images and each of its indexes; each space's embeddings, candidates and their indexes;
-- the queue; and the rest.
--
-- Columns:
--   space_id         the embedding space; NULL for parts of no space
--   space            its name
--   active           whether the space is active
--   part             table or index
--   kind             rows (with TOAST and maps), or index and its method
--   bytes            size
--   bytes_per_image  size per image; images are counted to 100,000 and estimated beyond
--
-- Example:
--     SELECT space, part, kind, pg_size_pretty(bytes) FROM lookalike.storage_parts ORDER BY bytes DESC;
CREATE OR REPLACE VIEW lookalike.storage_parts AS
SELECT p.space_id, p.space, p.active, p.part, p.kind, p.bytes, p.bytes / nullif(n.images, 0)::float8 AS bytes_per_image
FROM (SELECT lookalike.count_about('images', 100000) AS images OFFSET 0) n
CROSS JOIN LATERAL (
    SELECT s.id AS space_id, s.name AS space, s.active,
           CASE WHEN c.id IS NOT NULL THEN 'candidates' WHEN s.id IS NOT NULL THEN 'embeddings' WHEN t.relname IN ('images', 'jobs', 'failures') THEN t.relname
                ELSE 'other' END AS part,
           'rows' AS kind, sum(pg_table_size(t.oid))::bigint AS bytes
    FROM pg_class t
    LEFT JOIN lookalike.transforms c ON t.relname = 'candidates_' || c.id
    LEFT JOIN lookalike.embedding_spaces s ON s.table_name = t.relname OR s.id = c.space_id
    WHERE t.relnamespace = 'lookalike'::regnamespace AND t.relkind IN ('r', 'm')
    GROUP BY s.id, s.name, s.active, 4
    UNION ALL
    SELECT s.id, s.name, s.active,
           CASE WHEN s.id IS NULL AND t.relname NOT IN ('images', 'jobs', 'failures') THEN 'other' ELSE x.relname END,
           CASE WHEN s.id IS NULL AND t.relname NOT IN ('images', 'jobs', 'failures') THEN 'indexes'
                ELSE 'index, ' || a.amname END,
           sum(pg_table_size(x.oid))::bigint
    FROM pg_class t
    JOIN pg_index i ON i.indrelid = t.oid
    JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_am a ON a.oid = x.relam
    LEFT JOIN lookalike.transforms c ON t.relname = 'candidates_' || c.id
    LEFT JOIN lookalike.embedding_spaces s ON s.table_name = t.relname OR s.id = c.space_id
    WHERE t.relnamespace = 'lookalike'::regnamespace AND t.relkind IN ('r', 'm')
    GROUP BY s.id, s.name, s.active, 4, 5
) p;
