-- Store the settings of lookalike.settings_check for this database, and return the names of those that it set.
--
-- They make plain SELECT ... ORDER BY embedding <-> q LIMIT n complete. New sessions use them; settings that the
-- database already has stay. If the caller is neither the owner of the database nor a superuser, a WARNING gives
-- the statements to run. Run it again after pg_restore, because pg_dump leaves the settings of a database out.
--
-- Example:
--     SELECT lookalike.tune_database();
CREATE OR REPLACE FUNCTION lookalike.tune_database() RETURNS SETOF text
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    missing record;
BEGIN
    FOR missing IN
        SELECT c.setting, c.remedy FROM lookalike.settings_check c
        WHERE NOT EXISTS (
            SELECT FROM pg_db_role_setting s, unnest(s.setconfig) AS stored
            WHERE s.setrole = 0 AND split_part(stored, '=', 1) = c.setting
              AND s.setdatabase = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
    LOOP
        EXECUTE missing.remedy;
        RETURN NEXT missing.setting;
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'role % may not set defaults for database %, so plain filtered queries may return too few rows',
        current_user, current_database()
        USING HINT = 'As its owner or a superuser run: SELECT lookalike.tune_database(); '
            'lookalike.settings_check shows the statements.';
END
$$;
