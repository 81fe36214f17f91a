-- Internal: return how many candidates to rank again for k neighbours at a recall; lookalike.search_run calls it.
--
-- The candidates are found by that many sign bits, or by a reduced form of that many dimensions. `fixed` is the
-- number that the index choice names, meant for k up to 10: further neighbours lie deeper, by a power of k. The
-- formula comes from measurements, which the project's decisions describe.
CREATE OR REPLACE FUNCTION lookalike.search_depth(
    k int, recall float8, bits int, dimensions int, fixed int DEFAULT NULL
) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN least(10000, greatest(k, ceil(
    coalesce(fixed, CASE WHEN bits IS NOT NULL THEN 100 * greatest(1, (512.0 / bits) ^ 0.8)
                         ELSE 50 * greatest(1, (128.0 / dimensions) ^ 0.9) END
                    * CASE WHEN recall > 0.99 THEN 4.0 WHEN recall > 0.95 THEN 1.0 WHEN recall > 0.90 THEN 0.6 ELSE 0.4 END)
    * CASE WHEN k > 10 THEN (k / 10.0) ^ 0.7 ELSE 1 END)::int));
