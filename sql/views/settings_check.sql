-- Settings that make plain SELECT ... ORDER BY embedding <-> q LIMIT n complete, as this session has them.
--
-- Without hnsw.iterative_scan, pgvector stops after ef_search rows, filtered or not. hnsw.ef_search is the number
-- of rows of a first scan. hnsw.max_scan_tuples and hnsw.scan_mem_multiplier (times work_mem) end a scan early.
-- lookalike.search needs none of them.
--
-- Columns:
--   setting  name of the setting
--   value    its value in this session
--   wanted   the value that it needs at least
--   ok       whether the value is good enough
--   remedy   statement that stores it for new sessions; lookalike.tune_database() runs these
--
-- Example:
--     SELECT setting, value, wanted, ok FROM lookalike.settings_check;
CREATE OR REPLACE VIEW lookalike.settings_check AS
SELECT w.setting, current_setting(w.setting, true) AS value, w.wanted,
       CASE WHEN w.setting = 'hnsw.iterative_scan' THEN current_setting(w.setting, true) IS NOT DISTINCT FROM w.wanted
            ELSE coalesce(current_setting(w.setting, true)::float8 >= w.wanted::float8, false) END AS ok,
       format('ALTER DATABASE %I SET %s = %s', current_database(), w.setting, w.wanted) AS remedy
FROM (VALUES ('hnsw.iterative_scan', 'strict_order'),
             ('hnsw.ef_search', '200'),
             ('hnsw.max_scan_tuples', '1000000'),
             ('hnsw.scan_mem_multiplier', '16')) AS w (setting, wanted)
-- Always true, and evaluated by the planner: pgvector makes its settings known when its library is loaded.
WHERE l2_norm('[1]'::halfvec) = 1;
