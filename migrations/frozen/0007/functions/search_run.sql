-- Internal: check the arguments of a search, choose a strategy, run it and return parallel arrays, nearest first.
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
SET plan_cache_mode = force_generic_plan SET hnsw.iterative_scan = relaxed_order SET hnsw.ef_search = 100
SET hnsw.max_scan_tuples = 1000000 SET hnsw.scan_mem_multiplier = 16
SET ivfflat.probes = 30 SET ivfflat.iterative_scan = relaxed_order
AS $$
#variable_conflict use_variable
DECLARE
    began timestamptz;
    dimensions int;
    space_name text;
    ef int;
    condition text;
    chosen text;
    reason text;
    estimated_rows float8;
    filter_ms float8;
    no_index boolean;
    most_rows int;
    passing bigint[];
    scan_report jsonb;
    options jsonb;
    graph boolean;  -- whether the index is HNSW on the embeddings, or none: the quick way through
    transform smallint;
    fitted lookalike.transforms;
    lists int;
    probes int;
    depth int;  -- candidates to rank by the embeddings; NULL where the embeddings themselves are indexed
    middle int;
    deeper float8;  -- see lookalike.set_search_depth
BEGIN
    -- Few and large expressions, and no defaults above: PL/pgSQL prepares each expression anew in every transaction,
    -- and twenty small ones took a tenth of the time of an unfiltered search.
    SELECT clock_timestamp(), s.dimensions, s.name, coalesce(exclude, '{}'),
           CASE WHEN strategy = 'auto' AND (recall = 1 OR s.index_options ->> 'kind' = 'exact') THEN 'exact' ELSE strategy END,
           CASE WHEN strategy <> 'auto' THEN 'asked for' WHEN recall = 1 THEN 'recall 1' ELSE 'the space has no index' END,
           coalesce(ef_search, (coalesce((s.index_options ->> 'ef_search')::int, lookalike.search_ef(k, recall))
                                * coalesce((s.index_options ->> 'search_depth')::float8, 1))::int),
           s.index_options, lookalike.active_transform_id(), lookalike.active_transform_id() IS NULL
               AND NOT s.index_options ? 'lists'
    INTO began, dimensions, space_name, exclude, chosen, reason, ef, options, transform, graph
    -- Not by s.active, which the caller's snapshot may show as of before a switch: see lookalike.active_space_id.
    FROM (SELECT FROM lookalike.active_embeddings WHERE false) held RIGHT JOIN lookalike.embedding_spaces s ON true
    WHERE s.id = lookalike.active_space_id();
    IF NOT FOUND THEN
        PERFORM lookalike.active_space();
    END IF;
    IF (vector_dims(query) = dimensions AND k BETWEEN 1 AND 10000 AND recall > 0 AND recall <= 1
        AND (max_distance IS NULL OR max_distance BETWEEN 0 AND 'infinity')
        AND (ef_search IS NULL OR ef_search BETWEEN 1 AND 1000)
        AND strategy IN ('auto', 'exact', 'index')) IS NOT TRUE THEN
        query := lookalike.query_unit(query);  -- also one of the model's dimension, of a space that reduces it
        IF k IS NULL OR k NOT BETWEEN 1 AND 10000 THEN
            RAISE EXCEPTION 'k is %, but must be 1 to 10000', coalesce(k::text, 'NULL') USING ERRCODE = '22023';
        ELSIF max_distance < 0 OR max_distance = 'NaN' THEN
            RAISE EXCEPTION 'max_distance is %, but must be 0 or more', max_distance USING ERRCODE = '22023';
        ELSIF recall IS NULL OR NOT (recall > 0 AND recall <= 1) THEN
            RAISE EXCEPTION 'recall is %, but must be above 0 and at most 1', coalesce(recall::text, 'NULL')
                USING ERRCODE = '22023';
        ELSIF ef_search NOT BETWEEN 1 AND 1000 THEN
            RAISE EXCEPTION 'ef_search is %, but must be 1 to 1000', ef_search USING ERRCODE = '22023';
        ELSIF strategy IS NULL OR strategy NOT IN ('auto', 'exact', 'index') THEN
            RAISE EXCEPTION 'strategy is %, but must be auto, exact or index', coalesce(quote_literal(strategy), 'NULL')
                USING ERRCODE = '22023';
        END IF;
    END IF;
    IF abs(l2_norm(query) - 1) > 1e-3 THEN
        query := lookalike.query_unit(query);
    END IF;
    IF filter <> '{}' THEN
        condition := lookalike.filter_condition(filter);
    ELSIF cardinality(exclude) > 100 THEN
        condition := 'TRUE';
    END IF;
    IF graph THEN
        ef := least(greatest(ef, k + CASE WHEN condition IS NULL THEN cardinality(exclude) ELSE 0 END), 1000);
    ELSE
        deeper := coalesce((options ->> 'search_depth')::float8, 1);
        lists := options ->> 'lists';
        probes := least(lists, deeper * coalesce((options ->> 'probes')::int, lookalike.search_probes(lists, recall)))::int;
        IF transform IS NULL THEN
            ef := least(greatest(ef, k), 1000);
        ELSE
            -- What a transform is never changes, whatever snapshot it is read in; where a search's is older, it has no row.
            SELECT * INTO fitted FROM lookalike.transforms t WHERE t.id = transform;
            IF fitted.id IS NULL AND chosen = 'auto' THEN
                chosen := 'exact';
                reason := 'the transaction is older than the index';
            END IF;
            depth := CASE WHEN ef_search IS NOT NULL THEN greatest(ef_search, k) ELSE least(10000, deeper *
                lookalike.search_depth(k, recall, CASE WHEN fitted.dimensions IS NULL THEN fitted.bits END,
                                       fitted.dimensions, (options ->> 'rerank')::int))::int END;
            middle := CASE WHEN fitted.bits IS NULL OR fitted.dimensions IS NULL THEN depth
                           WHEN ef_search IS NOT NULL THEN 4 * depth
                           ELSE greatest(depth, least(10000, deeper * lookalike.search_depth(
                               k, recall, fitted.bits, NULL, (options ->> 'rerank_reduced')::int)))::int END;
            ef := greatest((options ->> 'ef_search')::int,
                           middle + CASE WHEN condition IS NULL THEN cardinality(exclude) ELSE 0 END);
        END IF;
    END IF;

    IF chosen = 'auto' AND condition IS NOT NULL THEN
        SELECT c.passing, CASE WHEN c.scanned THEN c.cost * 0.006 ELSE 0.2 + c.passing * 0.0022 END, c.scanned
        INTO estimated_rows, filter_ms, no_index
        FROM lookalike.search_filter_cost(condition) c;
        -- An index scan visits ef rows at least, at some 0.02 ms each: where the exact way takes no longer, no probe of
        -- the query's neighbourhood could show a faster one. A wrong estimate is found out by the bound on the rows.
        IF filter_ms + estimated_rows * 0.0013 < ef * 0.025 THEN
            most_rows := greatest(ef * 0.025 / 0.0035, 1000);
            passing := lookalike.search_passing(condition, exclude, most_rows + 1);
            IF cardinality(passing) <= most_rows THEN
                chosen := 'exact';
                reason := 'few rows pass';
            ELSE
                passing := NULL;
            END IF;
        END IF;
    END IF;

    IF chosen <> 'exact' AND condition IS NULL THEN
        IF depth IS NULL THEN
            -- An iterative scan keeps what it passed by, which costs a tenth; it is needed only where ef_search hardly
            -- suffices.
            PERFORM set_config('hnsw.ef_search', ef::text, true),
                    set_config('hnsw.iterative_scan', CASE WHEN ef < 2 * k THEN 'relaxed_order' ELSE 'off' END, true),
                    CASE WHEN NOT graph THEN set_config('ivfflat.probes', probes::text, true) END;
            SELECT array_agg(n.image_id ORDER BY n.distance, n.image_id),
                   array_agg(n.distance ORDER BY n.distance, n.image_id) INTO ids, distances
            FROM (SELECT e.image_id, e.embedding <-> query AS distance
                  FROM lookalike.active_embeddings e
                  WHERE e.image_id <> ALL (exclude)
                  ORDER BY e.embedding <-> query LIMIT k) n;
        ELSE
            SELECT c.ids, c.distances INTO ids, distances
            FROM lookalike.search_candidates(query, k, exclude, fitted, depth, middle, ef, coalesce(probes, 1)) c;
        END IF;
        IF chosen = 'auto' THEN
            chosen := 'index';
            reason := 'no filter';
        END IF;
        IF (cardinality(ids) >= k) IS NOT TRUE THEN
            ids := NULL;
            reason := 'the index ended short';
        END IF;
    ELSIF chosen <> 'exact' THEN
        SELECT r.ids, r.distances, r.report INTO ids, distances, scan_report
        FROM lookalike.search_scan(query, k, condition, exclude, ef, max_distance, filter_ms, no_index,
                                   chosen = 'auto', fitted, depth, probes) r;
        reason := scan_report ->> 'ended';
        chosen := 'index';
    END IF;
    IF ids IS NULL THEN
        IF chosen = 'index' THEN
            chosen := 'index, then exact';
        END IF;
        IF condition IS NOT NULL AND passing IS NULL THEN
            passing := lookalike.search_passing(condition, exclude, NULL);
        END IF;
        SELECT r.ids, r.distances INTO ids, distances FROM lookalike.search_exact(query, k, passing, exclude) r;
    END IF;
    IF max_distance IS NOT NULL THEN
        SELECT array_agg(u.id ORDER BY u.n), array_agg(u.distance ORDER BY u.n) INTO ids, distances
        FROM unnest(ids, distances) WITH ORDINALITY AS u (id, distance, n) WHERE u.distance <= max_distance;
    END IF;
    IF explain THEN
        plan := jsonb_strip_nulls(jsonb_build_object(
            'space', space_name, 'strategy', chosen, 'reason', reason, 'proven', chosen <> 'index',
            'ef_search', CASE WHEN chosen <> 'exact' AND lists IS NULL THEN ef END,
            'probes', CASE WHEN chosen <> 'exact' THEN probes END,
            'transform', CASE WHEN chosen <> 'exact' THEN transform END,
            'bits', CASE WHEN chosen <> 'exact' THEN fitted.bits END,
            'reduced', CASE WHEN chosen <> 'exact' THEN fitted.dimensions END,
            'rerank_reduced', CASE WHEN chosen <> 'exact' AND middle > depth THEN middle END,
            'rerank', CASE WHEN chosen <> 'exact' THEN depth END, 'rows', coalesce(cardinality(ids), 0),
            'truncated', coalesce(cardinality(ids), 0) = k, 'estimated_rows', estimated_rows,
            'passing', cardinality(passing), 'scan', scan_report,
            'ms', round(extract(epoch FROM clock_timestamp() - began) * 1000, 3)));
    END IF;
END
$$;
