-- Trigger function, after a statement that wrote embeddings of an audited space or changed images: one more change of the
-- space's data, in the writer's transaction. Its argument is the space, which may be gone by now. See lookalike.audit_space.
CREATE OR REPLACE FUNCTION lookalike.note_change() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO lookalike.data_changes (space_id, operation)
    SELECT s.id, TG_OP FROM lookalike.embedding_spaces s WHERE s.id = TG_ARGV[0]::smallint;
    RETURN NULL;
END
$$;
