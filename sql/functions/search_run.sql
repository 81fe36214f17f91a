-- The one implementation of search: checks the arguments, chooses a strategy, runs it and returns parallel arrays of ids
-- and distances, nearest first, with the plan if `explain` asks for it. STABLE, so that every statement inside sees the
-- caller's snapshot: an answer put together from several passes is still an answer about one moment.
CREATE OR REPLACE FUNCTION lookalike.search_run(
    query halfvec, k int, filter jsonb, max_distance float8, exclude bigint[], recall float8, ef_search int,
    strategy text, explain boolean,
    OUT ids bigint[], OUT distances float8[], OUT plan jsonb
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
#variable_conflict use_variable
DECLARE
    began timestamptz := clock_timestamp();
    dimensions int;
    space_name text;
    options jsonb;
    norm float8;
    condition text;
    ef int;
    chosen text := strategy;
    reason text := 'asked for';
    estimated_rows float8;
    filter_ms float8;
    no_index boolean;
    passing bigint[];
    scan_report jsonb;
BEGIN
    SELECT s.dimensions, s.name, s.index_options INTO dimensions, space_name, options
    FROM lookalike.embedding_spaces s WHERE s.active;
    IF NOT FOUND THEN
        PERFORM lookalike.active_space();
    END IF;
    norm := l2_norm(query);
    IF query IS NULL THEN
        RAISE EXCEPTION 'the query embedding is NULL' USING ERRCODE = '22004';
    ELSIF vector_dims(query) <> dimensions THEN
        RAISE EXCEPTION 'the query has % dimensions, but embedding space % has %',
            vector_dims(query), space_name, dimensions
            USING ERRCODE = '22023', HINT = 'Embed the query with the model of the active space.';
    ELSIF norm = 0 THEN
        RAISE EXCEPTION 'the query embedding is a zero vector, which has no direction' USING ERRCODE = '22023';
    ELSIF k IS NULL OR k NOT BETWEEN 1 AND 10000 THEN
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
    IF abs(norm - 1) > 1e-3 THEN
        query := l2_normalize(query);
    END IF;
    exclude := coalesce(exclude, '{}');
    IF filter <> '{}' THEN
        condition := lookalike.filter_condition(filter);
    ELSIF cardinality(exclude) > 100 THEN
        condition := 'TRUE';
    END IF;
    ef := coalesce(ef_search, (options ->> 'ef_search')::int, lookalike.search_ef(k, recall));
    ef := least(greatest(ef, k + CASE WHEN condition IS NULL THEN cardinality(exclude) ELSE 0 END), 1000);

    IF recall = 1 AND chosen = 'auto' THEN
        chosen := 'exact';
        reason := 'recall 1';
    END IF;
    IF chosen = 'auto' AND condition IS NOT NULL THEN
        SELECT c.passing, CASE WHEN c.scanned THEN c.cost * 0.006 ELSE 0.2 + c.passing * 0.003 END, c.scanned
        INTO estimated_rows, filter_ms, no_index
        FROM lookalike.search_filter_cost(condition) c;
        IF filter_ms + estimated_rows * 0.0015 < 2.5 THEN
            passing := lookalike.search_passing(condition, exclude, 1001);
            IF cardinality(passing) <= 1000 THEN
                chosen := 'exact';
                reason := 'few rows pass';
            ELSE
                passing := NULL;
            END IF;
        END IF;
    END IF;

    IF chosen <> 'exact' AND condition IS NULL THEN
        SELECT r.ids, r.distances INTO ids, distances FROM lookalike.search_index(query, k, exclude, ef) r;
        IF chosen = 'auto' THEN
            chosen := 'index';
            reason := 'no filter';
        END IF;
        IF coalesce(cardinality(ids), 0) < k THEN
            ids := NULL;
            reason := 'the index ended short';
        END IF;
    ELSIF chosen <> 'exact' THEN
        SELECT r.ids, r.distances, r.report INTO ids, distances, scan_report
        FROM lookalike.search_scan(query, k, condition, exclude, ef, max_distance, filter_ms, no_index,
                                   chosen = 'auto') r;
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
            'ef_search', CASE WHEN chosen <> 'exact' THEN ef END, 'rows', coalesce(cardinality(ids), 0),
            'truncated', coalesce(cardinality(ids), 0) = k, 'estimated_rows', estimated_rows,
            'passing', cardinality(passing), 'scan', scan_report,
            'ms', round(extract(epoch FROM clock_timestamp() - began) * 1000, 3)));
    END IF;
END
$$;
