-- Return the number of rows of a relation of schema lookalike, or `most` if there are more.
--
-- The cost is bounded, however large the table is.
--
-- Arguments:
--   relation   name of the table or view, without the schema
--   most       where counting stops
--   condition  SQL for WHERE; never put a user's input there
--
-- Example:
--     SELECT lookalike.count_up_to('images', 100000);
CREATE OR REPLACE FUNCTION lookalike.count_up_to(relation text, most bigint, condition text DEFAULT 'TRUE')
RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    counted bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM (SELECT FROM lookalike.%I WHERE %s LIMIT %s) capped', relation, condition, most)
    INTO counted;
    RETURN counted;
END
$$;
