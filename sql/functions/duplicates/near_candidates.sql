-- Internal: return pairs of images within `threshold` of each other, among the 200 nearest candidates of each.
--
-- If `members` is not NULL, both images must be among them. lookalike.near_pairs calls it and chooses the settings
-- of the index scan.
CREATE OR REPLACE FUNCTION lookalike.near_candidates(threshold float8, members bigint[])
RETURNS TABLE (image bigint, neighbor bigint, distance float8)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off SET enable_sort = off
SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    one record;
    near bigint[];
BEGIN
    FOR one IN
        SELECT c.image_id, c.bits, c.reduced, e.embedding
        FROM lookalike.active_candidates c JOIN lookalike.active_embeddings e ON e.image_id = c.image_id
        WHERE members IS NULL OR c.image_id = ANY (members)
    LOOP
        IF one.bits IS NOT NULL THEN
            near := ARRAY(SELECT c.image_id FROM lookalike.active_candidates c ORDER BY c.bits <~> one.bits LIMIT 200);
        ELSE
            near := ARRAY(SELECT c.image_id FROM lookalike.active_candidates c ORDER BY c.reduced <-> one.reduced LIMIT 200);
        END IF;
        RETURN QUERY
        SELECT one.image_id, e.image_id, (e.embedding <-> one.embedding) + 0
        FROM lookalike.active_embeddings e
        WHERE e.image_id = ANY (near) AND e.image_id <> one.image_id AND (e.embedding <-> one.embedding) <= threshold
          AND (members IS NULL OR e.image_id = ANY (members));
    END LOOP;
END
$$;
