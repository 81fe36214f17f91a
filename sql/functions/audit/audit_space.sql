-- Start or stop counting the statements that change the data of a space.
--
-- Such a statement writes embeddings of the space, or changes images, because filters read them. The count is
-- lookalike.data_version, which names the state of the data that answered a search. Waits for transactions that
-- are writing; set lock_timeout if one of them may be long.
--
-- Arguments:
--   space_name  the embedding space
--   audited     true to start, false to stop
--
-- Raises P0002 if there is no such space.
--
-- Example:
--     SELECT lookalike.audit_space('tf_efficientnet_lite0');
CREATE OR REPLACE FUNCTION lookalike.audit_space(space_name text, audited boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    space lookalike.embedding_spaces := lookalike.space_named(space_name);
BEGIN
    IF audited AND NOT lookalike.audited(space.id) THEN
        EXECUTE format('CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON lookalike.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION lookalike.note_change(%L)', space.table_name, space.id);
        EXECUTE format('CREATE TRIGGER %I AFTER UPDATE ON lookalike.images '
                       'FOR EACH STATEMENT EXECUTE FUNCTION lookalike.note_change(%L)', 'audit_' || space.id, space.id);
        INSERT INTO lookalike.data_changes (space_id, operation) VALUES (space.id, 'AUDIT');
    ELSIF NOT audited THEN
        EXECUTE format('DROP TRIGGER IF EXISTS audit ON lookalike.%I', space.table_name);
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON lookalike.images', 'audit_' || space.id);
    END IF;
END
$$;
