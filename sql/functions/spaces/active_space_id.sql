-- The id of the space that the view lookalike.active_embeddings shows, NULL where none is active;
-- lookalike.activate_space replaces both in one transaction. A catalog is read as it is now, a table as of the statement's
-- snapshot: embedding_spaces.active may therefore still name the space before the switch while the view already shows the
-- one after it. This function agrees with the view for whoever has read the view in the same transaction: that holds a
-- lock which the switch waits for. No SET of its own, so that the planner can inline it.
CREATE OR REPLACE FUNCTION lookalike.active_space_id() RETURNS smallint
LANGUAGE sql STABLE
AS $$ SELECT NULL::smallint $$;
