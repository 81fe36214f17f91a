-- The roles that this schema grants rights to, whether each is in the cluster, and whether it has its rights here.
-- `remedy` is the statement that mends it: the first by a role that may create roles, the second by the schema's owner.
CREATE OR REPLACE VIEW lookalike.roles_check AS
SELECT w.role, r.oid IS NOT NULL AS present,
       coalesce(has_schema_privilege(r.oid, 'lookalike', 'USAGE'), false) AS granted,
       CASE WHEN r.oid IS NULL THEN format('CREATE ROLE %I NOLOGIN; ', w.role) ELSE '' END
           || 'SELECT lookalike.grant_privileges()' AS remedy
FROM (VALUES ('lookalike_reader'), ('lookalike_writer'), ('lookalike_worker'), ('lookalike_api')) AS w (role)
LEFT JOIN pg_roles r ON r.rolname = w.role;
