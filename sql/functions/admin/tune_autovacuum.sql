-- Gives lookalike.images and the table of each embedding space the autovacuum settings that suit them, where they have
-- none of their own; docs/operations.md (Vacuum) says why. For the owner of the tables; create_space runs it, so a space
-- made later has them too. SHARE UPDATE EXCLUSIVE locks: searches and writes go on.
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
