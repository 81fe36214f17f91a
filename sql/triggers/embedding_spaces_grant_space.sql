-- A new embedding space: the group roles get their rights on its table, which is made after its row.
CREATE CONSTRAINT TRIGGER embedding_spaces_grant_space AFTER INSERT ON lookalike.embedding_spaces
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lookalike.grant_space();
