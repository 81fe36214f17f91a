-- Trigger function, at the end of a transaction that made an embedding space: its table is there by then, and gets its
-- grants.
CREATE OR REPLACE FUNCTION lookalike.grant_space() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM lookalike.grant_privileges();
    RETURN NULL;
END
$$;
