-- Internal: return the k nearest rows by the candidates of the active space; lookalike.search_run calls it.
--
-- It finds the nearest candidates by sign bits or by the reduced form, and ranks them again by their embeddings.
--
-- Arguments:
--   depth   how many candidates are ranked by the embeddings
--   middle  unused
--   probes  of an IVFFlat index

-- An array of ids against the primary key, as in search_exact. `middle` stays, because a search of release 0008 that
-- runs during the migration passes it.
CREATE OR REPLACE FUNCTION lookalike.search_candidates(
    query halfvec, k int, exclude bigint[], fitted lookalike.transforms, depth int, middle int, ef int, probes int,
    OUT ids bigint[], OUT distances float8[]
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off SET enable_sort = off
SET plan_cache_mode = force_generic_plan SET hnsw.iterative_scan = off SET hnsw.ef_search = 100
SET hnsw.max_scan_tuples = 1000000 SET hnsw.scan_mem_multiplier = 16
SET ivfflat.iterative_scan = off SET ivfflat.probes = 1
AS $$
#variable_conflict use_variable
DECLARE
    signs "bit";
    near halfvec;
    chosen bigint[];
BEGIN
    PERFORM set_config('hnsw.ef_search', least(ef, 1000)::text, true),
            set_config('hnsw.iterative_scan', CASE WHEN ef > 1000 THEN 'relaxed_order' ELSE 'off' END, true),
            set_config('ivfflat.probes', probes::text, true);
    IF fitted.bits IS NOT NULL THEN
        signs := binary_quantize(lookalike.transformed(fitted.id, 'bits', query));
        chosen := ARRAY(SELECT c.image_id FROM lookalike.active_candidates c
                        WHERE c.image_id <> ALL (exclude) ORDER BY c.bits <~> signs LIMIT depth);
    ELSE
        near := lookalike.transformed(fitted.id, 'reduced', query)::halfvec;
        chosen := ARRAY(SELECT c.image_id FROM lookalike.active_candidates c
                        WHERE c.image_id <> ALL (exclude) ORDER BY c.reduced <-> near LIMIT depth);
    END IF;
    SELECT array_agg(n.image_id ORDER BY n.distance, n.image_id),
           array_agg(n.distance ORDER BY n.distance, n.image_id) INTO ids, distances
    FROM (SELECT e.image_id, (e.embedding <-> query) + 0 AS distance
          FROM lookalike.active_embeddings e
          WHERE e.image_id = ANY (chosen)
          ORDER BY 2, 1 LIMIT k) n;
END
$$;
