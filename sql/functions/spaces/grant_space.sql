-- Internal: trigger function that grants the group roles their rights on the table of a new embedding space.
--
-- It runs at the end of the transaction that created the space, when the table exists.
CREATE OR REPLACE FUNCTION lookalike.grant_space() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM lookalike.grant_privileges();
    RETURN NULL;
END
$$;
