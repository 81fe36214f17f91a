-- Return what searches would lose if this space were the active one.
--
-- It reads the primary keys of both tables once.
--
-- Columns:
--   missing        number of images that can be found now and have no embedding in this space
--   queued         how many of these have a job in it
--   failed         how many of these have failed in it
--   index_missing  whether it lacks a valid ANN index although the active space has one
--
-- Raises P0002 if there is no such space, and 55000 if none is active.
--
-- Example:
--     SELECT * FROM lookalike.space_missing('tf_efficientnet_lite0');
CREATE OR REPLACE FUNCTION lookalike.space_missing(
    space_name text, OUT missing bigint, OUT queued bigint, OUT failed bigint, OUT index_missing boolean
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    space lookalike.embedding_spaces := lookalike.space_named(space_name);
    active lookalike.embedding_spaces := lookalike.active_space();
BEGIN
    EXECUTE format($query$
        SELECT count(*), count(j.image_id), count(f.image_id) FILTER (WHERE j.image_id IS NULL)
        FROM lookalike.active_embeddings a
        LEFT JOIN lookalike.jobs j ON j.image_id = a.image_id AND j.space_id = $1
        LEFT JOIN lookalike.failures f ON f.image_id = a.image_id AND f.space_id = $1
        WHERE NOT EXISTS (SELECT FROM lookalike.%I e WHERE e.image_id = a.image_id)
        $query$, space.table_name) INTO missing, queued, failed USING space.id;
    index_missing := EXISTS (SELECT FROM lookalike.ann_indexes x WHERE x.space_id = active.id AND x.valid AND x.serving)
        AND NOT EXISTS (SELECT FROM lookalike.ann_indexes x WHERE x.space_id = space.id AND x.valid AND x.serving);
END
$$;
