-- Internal: add what a worker has spent since its last call to the day's rows of lookalike.worker_costs.
--
-- The arrays run in parallel: counts of one measure in a space, and the seconds they took. Several workers add up.
CREATE OR REPLACE FUNCTION lookalike.add_costs(
    device text, space_ids smallint[], measures text[], counts bigint[], seconds float8[]
) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    INSERT INTO lookalike.worker_costs AS c (space_id, device, day, measure, count, seconds)
    SELECT n.space_id, add_costs.device, (statement_timestamp() AT TIME ZONE 'UTC')::date, n.measure, n.count, n.seconds
    FROM unnest(space_ids, measures, counts, add_costs.seconds) AS n (space_id, measure, count, seconds)
    WHERE EXISTS (SELECT FROM lookalike.embedding_spaces s WHERE s.id = n.space_id)
    ORDER BY n.space_id, n.measure  -- one order for all, lest two workers wait for each other
    ON CONFLICT (space_id, device, day, measure) DO UPDATE
    SET count = c.count + excluded.count, seconds = c.seconds + excluded.seconds;
$$;
