-- Internal: return the next `most` images after `after_id` by id, each with its embedding in a space.
--
-- The embedding is NULL if there is none yet. To read all images of one moment, call it in one REPEATABLE READ
-- transaction with the last id until it returns no rows. `lookalike export` does. Raises P0002 if there is no such
-- space.
CREATE OR REPLACE FUNCTION lookalike.export_embeddings(
    of_space smallint, after_id bigint DEFAULT 0, most int DEFAULT 1000
) RETURNS TABLE (
    id bigint, uri text, sha256 bytea, media_type text, width int, height int, caption text, attributes jsonb,
    created_at timestamptz, updated_at timestamptz, embedding halfvec
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    space_table text;
BEGIN
    SELECT s.table_name INTO space_table FROM lookalike.embedding_spaces s WHERE s.id = of_space;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no embedding space % any more', of_space USING ERRCODE = 'P0002';
    END IF;
    RETURN QUERY EXECUTE format($query$
        SELECT i.id, i.uri, i.sha256, i.media_type, i.width, i.height, i.caption, i.attributes, i.created_at,
               i.updated_at, e.embedding::halfvec
        FROM (SELECT * FROM lookalike.images n WHERE n.id > $1 ORDER BY n.id LIMIT $2) i
        LEFT JOIN lookalike.%I e ON e.image_id = i.id
        ORDER BY i.id
        $query$, space_table) USING after_id, most;
END
$$;
