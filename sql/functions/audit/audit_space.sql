-- Has every statement that writes embeddings of this space, or changes images (filters go by them), counted from now on
-- (or no more), so that lookalike.data_version says by which state of the data a search was answered. Waits for those who
-- write now: set lock_timeout where a long transaction may be in its way.
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
