-- Internal: check the arguments of a search and decide how lookalike.search_run executes it.
--
-- Columns:
--   query      of unit length, in the form that the space holds
--   strategy   exact or index
--   bounded    whether the index scan gives up when the exact way promises to be faster
--   condition  the filter as SQL; NULL if there is none
--   fitted     the transform of the candidates, if these are indexed; `depth` of them are ranked by their embeddings
--   probes     of an IVFFlat index with `lists`; both NULL for HNSW
--   passing    the ids that pass the filter, if their exact distances cost less than any index scan
--   filter_ms  how long it takes to find the `estimated_rows` that pass, in milliseconds, as the planner expects
--   no_index   whether finding them reads the whole table

-- No search_path of its own, because every search would pay for it: lookalike.search_run has set it.
CREATE OR REPLACE FUNCTION lookalike.search_plan(
    INOUT query halfvec, k int, filter jsonb, max_distance float8, INOUT exclude bigint[], recall float8, ef_search int,
    INOUT strategy text,
    OUT began timestamptz, OUT space text, OUT reason text, OUT bounded boolean, OUT condition text, OUT ef int,
    OUT fitted lookalike.transforms, OUT lists int, OUT probes int, OUT depth int,
    OUT passing bigint[], OUT estimated_rows float8, OUT filter_ms float8, OUT no_index boolean
)
LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_variable
DECLARE
    dimensions int;
    options jsonb;
    transform smallint;
    graph boolean;  -- whether the index is HNSW on the embeddings, or none: the fast path
    most_rows int;
    deeper float8;  -- see lookalike.set_search_depth
BEGIN
    -- Few and large expressions, and no defaults above: PL/pgSQL prepares each expression anew in every transaction,
    -- and twenty small ones took a tenth of the time of an unfiltered search.
    SELECT clock_timestamp(), s.dimensions, s.name, coalesce(exclude, '{}'), strategy = 'auto',
           CASE WHEN strategy = 'auto' AND (recall = 1 OR s.index_options ->> 'kind' = 'exact') THEN 'exact'
                WHEN strategy = 'auto' THEN 'index' ELSE strategy END,
           CASE WHEN strategy <> 'auto' THEN 'asked for' WHEN recall = 1 THEN 'recall 1'
                WHEN s.index_options ->> 'kind' = 'exact' THEN 'the space has no index' ELSE 'no filter' END,
           coalesce(ef_search, (coalesce((s.index_options ->> 'ef_search')::int, lookalike.search_ef(k, recall))
                                * coalesce((s.index_options ->> 'search_depth')::float8, 1))::int),
           s.index_options, lookalike.active_transform_id(), lookalike.active_transform_id() IS NULL
               AND NOT s.index_options ? 'lists'
    INTO began, dimensions, space, exclude, bounded, strategy, reason, ef, options, transform, graph
    -- Not by s.active, which the caller's snapshot may show as of before a switch: see lookalike.active_space_id.
    FROM (SELECT FROM lookalike.active_embeddings WHERE false) held RIGHT JOIN lookalike.embedding_spaces s ON true
    WHERE s.id = lookalike.active_space_id();
    IF NOT FOUND THEN
        PERFORM lookalike.active_space();
    END IF;
    IF (vector_dims(query) = dimensions AND k BETWEEN 1 AND 10000 AND recall > 0 AND recall <= 1
        AND (max_distance IS NULL OR max_distance BETWEEN 0 AND 'infinity')
        AND (ef_search IS NULL OR ef_search BETWEEN 1 AND 1000)
        AND strategy IN ('exact', 'index') AND abs(l2_norm(query) - 1) <= 1e-3) IS NOT TRUE THEN
        query := lookalike.query_unit(query);  -- may have the model's dimension, if the space reduces it
        PERFORM lookalike.check_search(k, max_distance, recall, ef_search, strategy);
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
            -- A transform never changes, whatever snapshot reads it; a snapshot older than the transform has no row.
            SELECT * INTO fitted FROM lookalike.transforms t WHERE t.id = transform;
            IF fitted.id IS NULL AND bounded AND strategy = 'index' THEN
                strategy := 'exact';
                reason := 'the transaction is older than the index';
            END IF;
            depth := CASE WHEN ef_search IS NOT NULL THEN greatest(ef_search, k) ELSE least(10000, deeper *
                lookalike.search_depth(k, recall, fitted.bits, fitted.dimensions, (options ->> 'rerank')::int))::int END;
            ef := greatest((options ->> 'ef_search')::int,
                           depth + CASE WHEN condition IS NULL THEN cardinality(exclude) ELSE 0 END);
        END IF;
    END IF;
    IF bounded AND strategy = 'index' AND condition IS NOT NULL THEN
        SELECT c.passing, CASE WHEN c.scanned THEN c.cost * 0.006 ELSE 0.2 + c.passing * 0.0022 END, c.scanned
        INTO estimated_rows, filter_ms, no_index
        FROM lookalike.search_filter_cost(condition) c;
        -- An index scan takes some 0.02 ms a row: if the exact way takes no longer than ef rows, no probe of the query's
        -- neighbourhood could show a faster one. The bound on the rows finds a wrong estimate out.
        IF filter_ms + estimated_rows * 0.0013 < ef * 0.025 THEN
            most_rows := greatest(ef * 0.025 / 0.0035, 1000);
            passing := lookalike.search_passing(condition, exclude, most_rows + 1);
            IF cardinality(passing) <= most_rows THEN
                strategy := 'exact';
                reason := 'few rows pass';
            ELSE
                passing := NULL;
            END IF;
        END IF;
    END IF;
END
$$;
