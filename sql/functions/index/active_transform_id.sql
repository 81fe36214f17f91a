-- Internal: return the id of the transform whose candidates lookalike.active_candidates shows.
--
-- NULL if the active space searches its embeddings themselves. lookalike.show_space replaces it together with the
-- view. As with lookalike.active_space_id, read the view first in the same transaction.
CREATE OR REPLACE FUNCTION lookalike.active_transform_id() RETURNS smallint
LANGUAGE sql STABLE
AS $$ SELECT NULL::smallint $$;
