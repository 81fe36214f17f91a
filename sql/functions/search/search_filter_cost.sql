-- What the planner expects of a filter over lookalike.images: rows that pass, and the cost of finding them. `scanned` is
-- true where it would read the whole table, so that no index helps. VOLATILE only because EXPLAIN is not allowed in a
-- STABLE function. Private to lookalike.search_run.
CREATE OR REPLACE FUNCTION lookalike.search_filter_cost(
    condition text, OUT passing float8, OUT cost float8, OUT scanned boolean
)
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT SET enable_sort = on SET max_parallel_workers_per_gather = 0
AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) SELECT i.id FROM lookalike.images i WHERE ' || condition INTO plan;
    passing := plan #>> '{0,Plan,Plan Rows}';
    cost := plan #>> '{0,Plan,Total Cost}';
    scanned := plan #>> '{0,Plan,Node Type}' = 'Seq Scan';
END
$$;
