-- Return the number of workers that serve a space and sent a heartbeat in the last ten seconds.
--
-- Example:
--     SELECT name, lookalike.live_workers(id) FROM lookalike.embedding_spaces;
CREATE OR REPLACE FUNCTION lookalike.live_workers(of_space smallint) RETURNS bigint
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT count(*) FROM lookalike.workers w
    WHERE of_space = ANY (w.space_ids) AND w.heartbeat_at > clock_timestamp() - interval '10 s';
$$;
