-- The group roles that the cluster lacks or that have no rights on the schema, each with the statements that mend it.
SELECT c.role, c.remedy FROM lookalike.roles_check c WHERE NOT (c.present AND c.granted) ORDER BY c.role;
