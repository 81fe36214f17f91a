-- The number of workers that serve this space and have given a sign of life in the last ten seconds.
CREATE OR REPLACE FUNCTION lookalike.live_workers(of_space smallint) RETURNS bigint
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT count(*) FROM lookalike.workers w
    WHERE of_space = ANY (w.space_ids) AND w.heartbeat_at > clock_timestamp() - interval '10 s';
$$;
