-- Internal: return the ids that pass a filter if they are few, else NULL; lookalike.search_plan calls it.
--
-- They are few if their exact distances cost less than any index scan.
--
-- Arguments:
--   ef              how many rows an index scan visits at least
-- Columns:
--   estimated_rows  how many rows pass, as the planner expects
--   filter_ms       how long it takes to find them, in milliseconds
--   no_index        whether finding them reads the whole table
CREATE OR REPLACE FUNCTION lookalike.search_few(
    condition text, exclude bigint[], ef int,
    OUT passing bigint[], OUT estimated_rows float8, OUT filter_ms float8, OUT no_index boolean
)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    most_rows int;
BEGIN
    SELECT c.passing, CASE WHEN c.scanned THEN c.cost * 0.006 ELSE 0.2 + c.passing * 0.0022 END, c.scanned
    INTO estimated_rows, filter_ms, no_index
    FROM lookalike.search_filter_cost(condition) c;
    -- An index scan takes some 0.02 ms a row: if the exact way takes no longer than ef rows, no probe of the query's
    -- neighbourhood could show a faster one. The bound on the rows finds a wrong estimate out.
    IF filter_ms + estimated_rows * 0.0013 < ef * 0.025 THEN
        most_rows := greatest(ef * 0.025 / 0.0035, 1000);
        passing := lookalike.search_passing(condition, exclude, most_rows + 1);
        IF cardinality(passing) > most_rows THEN
            passing := NULL;
        END IF;
    END IF;
END
$$;
