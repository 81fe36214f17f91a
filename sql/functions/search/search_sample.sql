-- Internal: measure a filter on some 200 rows of sixteen random pages of lookalike.images.
--
-- Columns:
--   total   number of images
--   seen    rows of the sample
--   passed  rows that pass
--   row_ms  milliseconds per row: the median of eight parts, so that a pause of the machine does not count
--
-- Expressions over jsonb have no statistics unless their attribute is indexed, and differ in cost by a factor of
-- ten, so the planner cannot estimate them. lookalike.search_scan calls it.
CREATE OR REPLACE FUNCTION lookalike.search_sample(
    condition text, OUT total float8, OUT seen int, OUT passed int, OUT row_ms float8
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET enable_sort = on SET jit = off
AS $$
DECLARE
    pages float8 := greatest(pg_relation_size('lookalike.images') / current_setting('block_size')::int, 1);
    percent float8 := least(100, 1600 / pages);
    times timestamptz[];
    part int;
BEGIN
    EXECUTE format($sql$
        SELECT count(*), count(*) FILTER (WHERE s.passes), array_agg(s.at)
        FROM (SELECT (%s) IS TRUE AS passes, clock_timestamp() AS at
              FROM lookalike.images i TABLESAMPLE SYSTEM (%s)) s
        $sql$, condition, percent) INTO seen, passed, times;
    part := greatest((seen - 1) / 8, 1);
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM times[n + part] - times[n]) * 1000 / part)
    INTO row_ms FROM generate_series(1, seen - part, part) AS n;
    row_ms := coalesce(row_ms, 0.001);
    SELECT CASE WHEN c.reltuples > 0 AND c.relpages > 0 THEN c.reltuples / c.relpages * pages
                ELSE seen * 100 / percent END INTO total
    FROM pg_class c WHERE c.oid = 'lookalike.images'::regclass;
END
$$;
