-- Internal: return the upper end of a bucket of lookalike.latencies, in seconds.
--
-- It is 0.001 · 2^(bucket / 4), so buckets grow by 19 %.
CREATE OR REPLACE FUNCTION lookalike.latency_bound(bucket int) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$
    SELECT 0.001 * 2 ^ (bucket / 4.0::float8);
$$;
