-- Internal: return the id of the space that lookalike.active_embeddings shows, or NULL if no space is active.
--
-- lookalike.activate_space replaces both in one transaction. Read the view first in the same transaction: that
-- holds a lock which a switch waits for, and then both agree.

-- A catalog is read as it is now, a table as of the statement's snapshot: embedding_spaces.active may therefore
-- still name the space before a switch when the view already shows the one after it. No SET of its own, so that
-- the planner can inline it.
CREATE OR REPLACE FUNCTION lookalike.active_space_id() RETURNS smallint
LANGUAGE sql STABLE
AS $$ SELECT NULL::smallint $$;
