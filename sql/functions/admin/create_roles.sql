-- Create the group roles of lookalike.roles_check that the cluster lacks.
--
-- Roles are shared by all databases of a cluster, so a role that exists is used as it is. If the caller may not
-- create roles, a WARNING gives the statements to run.
--
-- Example:
--     SELECT lookalike.create_roles();
CREATE OR REPLACE FUNCTION lookalike.create_roles() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    missing text;
    refused text;
BEGIN
    FOR missing IN SELECT c.role FROM lookalike.roles_check c WHERE NOT c.present LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', missing);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL;  -- a migration of another database came first
            WHEN insufficient_privilege THEN
                refused := concat_ws('; ', refused, format('CREATE ROLE %I NOLOGIN', missing));
        END;
    END LOOP;
    IF refused IS NOT NULL THEN
        RAISE WARNING 'role % may not create roles, so access for others than the owner is not set up', current_user
            USING HINT = format('As a role that may, run: %s; then, as the owner of schema lookalike: '
                                'SELECT lookalike.grant_privileges()', refused);
    END IF;
END
$$;
