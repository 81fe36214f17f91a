-- Counts the changes of a space from now on; see lookalike.audit_space.
SELECT lookalike.audit_space(:'name');
