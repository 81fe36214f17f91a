-- Internal: record a worker's heartbeat, its state and its counts so far.
--
-- It returns false if the worker's row no longer exists.
CREATE OR REPLACE FUNCTION lookalike.beat_worker(
    worker_id bigint, worker_state text, embedded bigint, failed bigint, answered bigint, error text
) RETURNS boolean
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH beaten AS (
        UPDATE lookalike.workers w
        SET heartbeat_at = clock_timestamp(), state = worker_state, images_embedded = embedded,
            images_failed = failed, queries_answered = answered, last_error = error
        WHERE w.id = worker_id
        RETURNING 1
    )
    SELECT EXISTS (SELECT FROM beaten);
$$;
