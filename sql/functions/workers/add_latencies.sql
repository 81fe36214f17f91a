-- Internal: add what a worker has counted since its last call to lookalike.latencies.
--
-- The arrays run in parallel: how many events of one measure and space ended in one bucket, and the seconds they
-- took together. Several workers add up.
CREATE OR REPLACE FUNCTION lookalike.add_latencies(
    space_ids smallint[], measures text[], buckets smallint[], counts bigint[], seconds float8[]
) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    INSERT INTO lookalike.latencies AS l (space_id, measure, slot, bucket, count, seconds)
    SELECT n.space_id, n.measure, date_bin('10 s', statement_timestamp(), 'epoch'), n.bucket, n.count, n.seconds
    FROM unnest(space_ids, measures, buckets, counts, seconds) AS n (space_id, measure, bucket, count, seconds)
    ORDER BY n.space_id, n.measure, n.bucket  -- one order for all, lest two workers wait for each other
    ON CONFLICT (space_id, measure, slot, bucket) DO UPDATE
    SET count = l.count + excluded.count, seconds = l.seconds + excluded.seconds;
$$;
