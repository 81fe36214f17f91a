-- Group roles that this schema grants rights to, one row per role.
--
-- Columns:
--   role     name of the role
--   present  whether the cluster has the role
--   granted  whether the role has its rights in this database
--   remedy   statements that create the role (by a role that may) and grant its rights (by the owner of the
--            schema)
--
-- Example:
--     SELECT role, present, granted, remedy FROM lookalike.roles_check;
CREATE OR REPLACE VIEW lookalike.roles_check AS
SELECT w.role, r.oid IS NOT NULL AS present,
       coalesce(has_schema_privilege(r.oid, 'lookalike', 'USAGE'), false) AS granted,
       CASE WHEN r.oid IS NULL THEN format('CREATE ROLE %I NOLOGIN; ', w.role) ELSE '' END
           || 'SELECT lookalike.grant_privileges()' AS remedy
FROM (VALUES ('lookalike_reader'), ('lookalike_writer'), ('lookalike_worker'), ('lookalike_api')) AS w (role)
LEFT JOIN pg_roles r ON r.rolname = w.role;
