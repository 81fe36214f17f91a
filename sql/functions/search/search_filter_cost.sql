-- Internal: return what the planner expects of a filter: rows that pass, and the cost to find them.
--
-- `scanned` is true if it would read the whole table, so that no index helps. lookalike.search_run calls it.

-- VOLATILE only because EXPLAIN is not allowed in a STABLE function.
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
