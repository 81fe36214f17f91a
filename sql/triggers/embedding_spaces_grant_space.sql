-- Internal: run lookalike.grant_space at the end of a transaction that creates an embedding space.
--
-- The table of the space is created after its row.
CREATE CONSTRAINT TRIGGER embedding_spaces_grant_space AFTER INSERT ON lookalike.embedding_spaces
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lookalike.grant_space();
