-- Return the ids of images that pass a filter, in ascending order, a page at a time.
--
-- Arguments:
--   filter    conditions in the JSON filter grammar; NULL for none
--   after_id  the last id of the page before; NULL for the first page
--   max_rows  size of the page, 1 to 10,000
--
-- Raises 22023 if the filter or max_rows is not valid.
--
-- Example:
--     SELECT * FROM lookalike.list_images('{"category": "animals"}', max_rows => 20);
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
