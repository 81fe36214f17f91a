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
    completed boolean := false;
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
    ELSIF max_distance IS NOT NULL AND NOT max_distance >= 0 THEN
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
    IF filter IS NOT NULL AND filter <> '{}' THEN
        condition := lookalike.filter_condition(filter);
    END IF;
    ef := coalesce(ef_search, (options ->> 'ef_search')::int, greatest(100, 2 * k));
    ef := least(greatest(ef, k + cardinality(exclude)), 1000);

    IF strategy = 'auto' THEN
        IF recall = 1 THEN
            chosen := 'exact';
            reason := 'recall 1';
        ELSIF condition IS NOT NULL OR cardinality(exclude) > 100 THEN
            chosen := 'exact';
            reason := 'filter';
        ELSE
            chosen := 'index';
            reason := 'no filter';
        END IF;
    END IF;

    IF chosen = 'index' THEN
        SELECT r.ids, r.distances INTO ids, distances
        FROM lookalike.search_index(query, k, condition, exclude, ef) r;
        completed := coalesce(cardinality(ids), 0) < k;
    END IF;
    IF chosen = 'exact' OR completed THEN
        SELECT r.ids, r.distances INTO ids, distances
        FROM lookalike.search_exact(query, k, condition, exclude) r;
    END IF;
    IF max_distance IS NOT NULL THEN
        SELECT array_agg(u.id ORDER BY u.n), array_agg(u.distance ORDER BY u.n) INTO ids, distances
        FROM unnest(ids, distances) WITH ORDINALITY AS u (id, distance, n) WHERE u.distance <= max_distance;
    END IF;
    IF explain THEN
        plan := jsonb_build_object(
            'space', space_name, 'strategy', chosen, 'reason', reason, 'completed', completed, 'ef_search', ef,
            'rows', coalesce(cardinality(ids), 0), 'truncated', coalesce(cardinality(ids), 0) = k,
            'ms', round(extract(epoch FROM clock_timestamp() - began) * 1000, 3));
    END IF;
END
$$;
