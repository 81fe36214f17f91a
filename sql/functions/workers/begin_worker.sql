-- Internal: register a worker that serves these spaces, and return its id.
--
-- It also removes the rows of workers that have been silent for an hour.
CREATE OR REPLACE FUNCTION lookalike.begin_worker(
    worker_name text, worker_version text, worker_device text, serves smallint[]
) RETURNS bigint
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    DELETE FROM lookalike.workers w WHERE w.heartbeat_at < clock_timestamp() - interval '1 hour';
    INSERT INTO lookalike.workers (name, version, device, space_ids)
    VALUES (worker_name, worker_version, worker_device, serves)
    RETURNING id;
$$;
