-- Internal: return the ids of the images that pass a filter, at most `cap`; lookalike.search_run calls it.
CREATE OR REPLACE FUNCTION lookalike.search_passing(condition text, exclude bigint[], cap bigint) RETURNS bigint[]
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET enable_sort = on SET jit = off
AS $$
DECLARE
    passing bigint[];
BEGIN
    EXECUTE format('SELECT ARRAY(SELECT i.id FROM lookalike.images i WHERE (%s) AND i.id <> ALL ($1) LIMIT $2)', condition)
    INTO passing USING exclude, cap;
    RETURN passing;
END
$$;
