-- How far the build of an index on this table has come: phase, and the done share of the table, 0 to 1.
SELECT p.phase, coalesce(p.tuples_done::float8 / nullif(p.tuples_total, 0),
                         p.blocks_done::float8 / nullif(p.blocks_total, 0), 0)
FROM pg_stat_progress_create_index p
WHERE p.relid = format('lookalike.%I', :'table_name'::text)::regclass;
