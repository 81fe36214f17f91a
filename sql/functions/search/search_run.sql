-- Internal: execute what lookalike.search_plan decides, and return parallel arrays of ids and distances, nearest first.
--
-- This is the one implementation of search. It adds the plan if `explain` is true.

-- STABLE, so that every statement inside sees the caller's snapshot: an answer put together from several passes is
-- still an answer about one moment.
CREATE OR REPLACE FUNCTION lookalike.search_run(
    query halfvec, k int, filter jsonb, max_distance float8, exclude bigint[], recall float8, ef_search int,
    strategy text, explain boolean,
    OUT ids bigint[], OUT distances float8[], OUT plan jsonb
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off SET enable_sort = off
SET plan_cache_mode = force_generic_plan SET hnsw.iterative_scan = off SET hnsw.ef_search = 100
SET hnsw.max_scan_tuples = 1000000 SET hnsw.scan_mem_multiplier = 16
SET ivfflat.probes = 30 SET ivfflat.iterative_scan = relaxed_order
AS $$
#variable_conflict use_variable
DECLARE
    decided record;
    setting text;  -- unused: an assignment costs less than PERFORM
    scan_report jsonb;
BEGIN
    decided := lookalike.search_plan(query, k, filter, max_distance, exclude, recall, ef_search, strategy);
    IF decided.strategy = 'index' AND decided.condition IS NULL THEN
        IF decided.depth IS NULL THEN
            -- An iterative scan keeps the rows that it passed, which costs a tenth. It is needed only if ef_search hardly
            -- suffices.
            setting := set_config('hnsw.ef_search', decided.ef::text, true);
            IF decided.ef < 2 * k THEN
                setting := set_config('hnsw.iterative_scan', 'relaxed_order', true);
            END IF;
            IF decided.probes IS NOT NULL THEN
                setting := set_config('ivfflat.probes', decided.probes::text, true);
            END IF;
            SELECT array_agg(n.image_id ORDER BY n.distance, n.image_id),
                   array_agg(n.distance ORDER BY n.distance, n.image_id) INTO ids, distances
            FROM (SELECT e.image_id, e.embedding <-> decided.query AS distance
                  FROM lookalike.active_embeddings e
                  WHERE e.image_id <> ALL (decided.exclude)
                  ORDER BY e.embedding <-> decided.query LIMIT k) n;
        ELSE
            SELECT c.ids, c.distances INTO ids, distances
            FROM lookalike.search_candidates(decided.query, k, decided.exclude, decided.fitted, decided.depth, NULL,
                                             decided.ef, coalesce(decided.probes, 1)) c;
        END IF;
        IF (cardinality(ids) >= k) IS NOT TRUE THEN
            ids := NULL;
            decided.reason := 'the index ended short';
        END IF;
    ELSIF decided.strategy = 'index' THEN
        SELECT r.ids, r.distances, r.report INTO ids, distances, scan_report
        FROM lookalike.search_scan(decided.query, k, decided.condition, decided.exclude, decided.ef, max_distance,
                                   decided.filter_ms, decided.no_index, decided.bounded, decided.fitted, decided.depth,
                                   decided.probes) r;
        decided.reason := scan_report ->> 'ended';
    END IF;
    IF ids IS NULL THEN
        IF decided.strategy = 'index' THEN
            decided.strategy := 'index, then exact';
        END IF;
        IF decided.condition IS NOT NULL AND decided.passing IS NULL THEN
            decided.passing := lookalike.search_passing(decided.condition, decided.exclude, NULL);
        END IF;
        SELECT r.ids, r.distances INTO ids, distances
        FROM lookalike.search_exact(decided.query, k, decided.passing, decided.exclude) r;
    END IF;
    IF max_distance IS NOT NULL THEN
        SELECT array_agg(u.id ORDER BY u.n), array_agg(u.distance ORDER BY u.n) INTO ids, distances
        FROM unnest(ids, distances) WITH ORDINALITY AS u (id, distance, n) WHERE u.distance <= max_distance;
    END IF;
    IF explain THEN
        plan := jsonb_build_object(
            'space', decided.space, 'strategy', decided.strategy, 'reason', decided.reason, 'proven', decided.strategy <> 'index',
            'rows', coalesce(cardinality(ids), 0), 'truncated', coalesce(cardinality(ids), 0) = k,
            'estimated_rows', decided.estimated_rows, 'passing', cardinality(decided.passing), 'scan', scan_report,
            'ms', round(extract(epoch FROM clock_timestamp() - decided.began) * 1000, 3));
        IF decided.strategy <> 'exact' THEN
            plan := plan || jsonb_build_object(
                'ef_search', CASE WHEN decided.lists IS NULL THEN decided.ef END, 'probes', decided.probes,
                'transform', (decided.fitted).id, 'bits', (decided.fitted).bits,
                'reduced', CASE WHEN (decided.fitted).bits IS NULL THEN (decided.fitted).dimensions END,
                'rerank', decided.depth);
        END IF;
        plan := jsonb_strip_nulls(plan);
    END IF;
END
$$;
