-- Return the version of a space's data that this statement sees, or NULL if the space is not audited.
--
-- It is the number of changes committed before the statement. It grows with each change, and is the same for the
-- same data. See lookalike.audit_space.
--
-- Example:
--     SELECT name, lookalike.data_version(id) FROM lookalike.embedding_spaces;

-- The changes are counted. The highest id would miss a transaction that began earlier and commits later.
CREATE OR REPLACE FUNCTION lookalike.data_version(space_id smallint) RETURNS bigint
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT CASE WHEN lookalike.audited(data_version.space_id)
                THEN (SELECT count(*) FROM lookalike.data_changes c WHERE c.space_id = data_version.space_id) END
$$;
