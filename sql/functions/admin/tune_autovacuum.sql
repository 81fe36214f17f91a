-- Give lookalike.images and the tables of embeddings autovacuum settings that suit them.
--
-- A table that has such settings of its own keeps them. Only the owner of the tables may run this.
-- lookalike.create_space runs it for each new space. It takes SHARE UPDATE EXCLUSIVE locks, so searches and writes
-- go on.
--
-- Example:
--     SELECT lookalike.tune_autovacuum();

-- The documentation of vacuum gives the reasons for the settings.
CREATE OR REPLACE FUNCTION lookalike.tune_autovacuum() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    tuned record;
BEGIN
    FOR tuned IN
        SELECT c.relname, w.options
        FROM (SELECT 'images' AS relname,
                     'autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05, '
                     'autovacuum_analyze_scale_factor = 0.02' AS options
              UNION ALL
              SELECT s.table_name,
                     'autovacuum_vacuum_scale_factor = 0.2, autovacuum_vacuum_threshold = 1000, '
                     'autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02'
              FROM lookalike.embedding_spaces s) w
        JOIN pg_class c ON c.relname = w.relname AND c.relnamespace = 'lookalike'::regnamespace
        WHERE NOT EXISTS (SELECT FROM unnest(c.reloptions) o WHERE o LIKE 'autovacuum%')
    LOOP
        EXECUTE format('ALTER TABLE lookalike.%I SET (%s)', tuned.relname, tuned.options);
    END LOOP;
END
$$;
