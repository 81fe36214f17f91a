-- Return whether changes of this space are counted; see lookalike.audit_space.
--
-- Example:
--     SELECT name, lookalike.audited(id) FROM lookalike.embedding_spaces;
CREATE OR REPLACE FUNCTION lookalike.audited(space_id smallint) RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT EXISTS (
        SELECT FROM pg_trigger t JOIN lookalike.embedding_spaces s ON s.id = audited.space_id
        WHERE t.tgrelid = to_regclass(format('lookalike.%I', s.table_name)) AND t.tgname = 'audit' AND t.tgenabled = 'O')
$$;
