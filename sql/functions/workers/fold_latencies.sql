-- Internal: fold old slots of lookalike.latencies into one, and return the number of rows folded.
--
-- Old are those of more than `age_seconds`. The one slot is at -infinity. So the table stays small and sums over
-- it only grow. Rows of dropped spaces are removed. It returns 0 if another session is folding.
CREATE OR REPLACE FUNCTION lookalike.fold_latencies(age_seconds float8 DEFAULT 4000) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    folded bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('lookalike.fold_latencies')) THEN
        RETURN 0;
    END IF;
    DELETE FROM lookalike.latencies l
    WHERE NOT EXISTS (SELECT FROM lookalike.embedding_spaces s WHERE s.id = l.space_id);
    WITH old AS (
        DELETE FROM lookalike.latencies l
        WHERE l.slot > '-infinity' AND l.slot < clock_timestamp() - make_interval(secs => age_seconds)
        RETURNING l.space_id, l.measure, l.bucket, l.count, l.seconds
    ), folding AS (
        INSERT INTO lookalike.latencies AS l (space_id, measure, slot, bucket, count, seconds)
        SELECT o.space_id, o.measure, '-infinity', o.bucket, sum(o.count), sum(o.seconds)
        FROM old o
        GROUP BY o.space_id, o.measure, o.bucket
        ON CONFLICT (space_id, measure, slot, bucket) DO UPDATE
        SET count = l.count + excluded.count, seconds = l.seconds + excluded.seconds
    )
    SELECT count(*) INTO folded FROM old;
    RETURN folded;
END
$$;
