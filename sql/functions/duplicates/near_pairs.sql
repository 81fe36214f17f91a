-- Internal: return the pairs of images within `threshold` of each other in the active space, as parallel arrays.
--
-- If `members` is not NULL, both images must be among them. With an index it searches the neighbours of each
-- image; without one it compares every pair. With an index of candidates it looks at the 200 nearest of each
-- image. lookalike.near_duplicates calls it.
CREATE OR REPLACE FUNCTION lookalike.near_pairs(
    threshold float8, members bigint[], OUT lefts bigint[], OUT rights bigint[], OUT lengths float8[]
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off SET enable_sort = off
SET plan_cache_mode = force_generic_plan SET hnsw.iterative_scan = strict_order SET hnsw.ef_search = 100
SET ivfflat.probes = 30 SET ivfflat.iterative_scan = relaxed_order
AS $$
#variable_conflict use_variable
DECLARE
    image record;
    neighbor record;
    pairs int := 0;
    space lookalike.embedding_spaces := lookalike.active_space();
    transform smallint;
    method text;
BEGIN
    SELECT lookalike.active_transform_id() INTO transform;
    SELECT m.amname INTO method
    FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am m ON m.oid = c.relam
    WHERE x.indrelid = format('lookalike.%I', coalesce('candidates_' || transform, space.table_name))::regclass
      AND m.amname IN ('hnsw', 'ivfflat') AND x.indisvalid
    LIMIT 1;
    IF method IS NULL THEN
        SELECT array_agg(a.image_id), array_agg(b.image_id), array_agg(a.embedding <-> b.embedding)
        INTO lefts, rights, lengths
        FROM lookalike.active_embeddings a JOIN lookalike.active_embeddings b ON a.image_id < b.image_id
        WHERE (a.embedding <-> b.embedding) <= threshold
          AND (members IS NULL OR a.image_id = ANY (members) AND b.image_id = ANY (members));
        RETURN;
    END IF;
    lefts := '{}';
    rights := '{}';
    lengths := '{}';
    IF method = 'ivfflat' THEN
        PERFORM set_config('ivfflat.probes',
                           lookalike.search_probes((space.index_options ->> 'lists')::int, 0.99)::text, true);
    END IF;
    FOR image IN
        SELECT e.image_id, e.embedding FROM lookalike.active_embeddings e
        WHERE transform IS NULL AND (members IS NULL OR e.image_id = ANY (members))
    LOOP
        FOR neighbor IN
            SELECT e.image_id, e.embedding <-> image.embedding AS distance
            FROM lookalike.active_embeddings e ORDER BY e.embedding <-> image.embedding LIMIT 1000
        LOOP
            EXIT WHEN neighbor.distance > threshold;
            CONTINUE WHEN neighbor.image_id = image.image_id;
            pairs := pairs + 1;
            lefts[pairs] := image.image_id;
            rights[pairs] := neighbor.image_id;
            lengths[pairs] := neighbor.distance;
        END LOOP;
    END LOOP;
    IF transform IS NOT NULL THEN
        PERFORM set_config('hnsw.ef_search', '200', true), set_config('hnsw.iterative_scan', 'off', true);
        SELECT array_agg(p.l), array_agg(p.r), array_agg(p.d) INTO lefts, rights, lengths
        FROM lookalike.near_candidates(threshold, members) AS p (l, r, d);
        RETURN;
    END IF;
    IF members IS NOT NULL THEN
        SELECT array_agg(u.l), array_agg(u.r), array_agg(u.d) INTO lefts, rights, lengths
        FROM unnest(lefts, rights, lengths) AS u (l, r, d) WHERE u.r = ANY (members);
    END IF;
END
$$;
