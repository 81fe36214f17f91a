-- Internal: return the seconds within which the share `quantile` (0 to 1) of counted events ended.
--
-- It interpolates inside the bucket; NULL if nothing was counted. `buckets` ascend; `counts` run in parallel.
CREATE OR REPLACE FUNCTION lookalike.latency_quantile(buckets smallint[], counts bigint[], quantile float8)
RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT
AS $$
    SELECT CASE n.bucket WHEN 0 THEN lookalike.latency_bound(0)
                         ELSE lookalike.latency_bound(n.bucket - 1) END
           * CASE n.bucket WHEN 0 THEN 1 ELSE 2 ^ (0.25 * (n.wanted - n.before) / n.count) END
    FROM (SELECT c.bucket, c.count, sum(c.count) OVER upward - c.count AS before, sum(c.count) OVER upward AS up_to,
                 quantile * sum(c.count) OVER () AS wanted
          FROM unnest(buckets, counts) AS c (bucket, count)
          WINDOW upward AS (ORDER BY c.bucket)) n
    WHERE n.up_to >= n.wanted
    ORDER BY n.bucket
    LIMIT 1;
$$;
