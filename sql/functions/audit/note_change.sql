-- Internal: trigger function that records one change of the data of an audited space.
--
-- It runs after a statement that wrote embeddings of the space or changed images, in the writer's transaction. Its
-- argument is the space, which may have been dropped. See lookalike.audit_space.
CREATE OR REPLACE FUNCTION lookalike.note_change() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO lookalike.data_changes (space_id, operation)
    SELECT s.id, TG_OP FROM lookalike.embedding_spaces s WHERE s.id = TG_ARGV[0]::smallint;
    RETURN NULL;
END
$$;
