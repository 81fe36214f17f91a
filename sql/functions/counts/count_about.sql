-- Internal: return the number of rows of a relation, exact below `most` and estimated beyond.
--
-- The estimate is the planner's, from the size and statistics of the table, so the cost does not grow with the
-- count. `condition` is SQL that the caller wrote, never a user's.
CREATE OR REPLACE FUNCTION lookalike.count_about(relation text, most bigint, condition text DEFAULT 'TRUE')
RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT  -- EXPLAIN is refused in a stable function
AS $$
DECLARE
    counted bigint := lookalike.count_up_to(relation, most, condition);
    plan json;
BEGIN
    IF counted >= most THEN
        EXECUTE format('EXPLAIN (FORMAT JSON) SELECT FROM lookalike.%I WHERE %s', relation, condition) INTO plan;
        counted := greatest(most, (plan -> 0 -> 'Plan' ->> 'Plan Rows')::float8::bigint);
    END IF;
    RETURN counted;
END
$$;
