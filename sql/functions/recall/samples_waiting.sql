-- Internal: return how many kept searches wait to be checked; NULL on a standby, which has none of its own.
CREATE OR REPLACE FUNCTION lookalike.samples_waiting() RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT count(s.id) FROM lookalike.search_samples s);
END
$$;
