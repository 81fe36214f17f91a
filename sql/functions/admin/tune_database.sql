-- Makes plain SQL safe in this database: stores the settings of lookalike.settings_check for it, except those that the
-- database has a value of its own for. New sessions have them from then on. Where the role may not (the database's owner
-- and a superuser may) a WARNING says what they must run. Returns what it set. Run it again after pg_restore,
-- since pg_dump leaves a database's settings out.
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
