-- The ids of the images that pass a filter (lookalike.filter_condition), ascending, from the first above `after_id`: one
-- page, and where the next begins.
CREATE OR REPLACE FUNCTION lookalike.list_images(filter jsonb DEFAULT NULL, after_id bigint DEFAULT NULL, max_rows int DEFAULT 100)
RETURNS SETOF bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off
AS $$
BEGIN
    PERFORM lookalike.check_range('max_rows', max_rows, 1, 10000);
    RETURN QUERY EXECUTE format(
        'SELECT i.id FROM lookalike.images i WHERE i.id > $1 AND (%s) ORDER BY i.id LIMIT $2',
        lookalike.filter_condition(filter))
    USING coalesce(after_id, -9223372036854775808), max_rows;
END
$$;
