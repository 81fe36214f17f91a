-- The id of the transform whose candidates the view lookalike.active_candidates shows; NULL where the active space searches
-- its embeddings themselves. Replaced together with the view, by lookalike.show_space, and read as lookalike.active_space_id
-- is: by whoever has read the view in the same transaction.
CREATE OR REPLACE FUNCTION lookalike.active_transform_id() RETURNS smallint
LANGUAGE sql STABLE
AS $$ SELECT NULL::smallint $$;
