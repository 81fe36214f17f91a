-- Makes the space active again that was it before the last switch, without asking what it lacks: triggers and workers have
-- kept it up to date meanwhile. Returns its name. Twice is forth again.
CREATE OR REPLACE FUNCTION lookalike.rollback_space() RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    earlier text;
BEGIN
    SELECT w.from_space INTO earlier
    FROM lookalike.space_switches w JOIN lookalike.embedding_spaces s ON s.name = w.from_space
    WHERE NOT s.active
    ORDER BY w.id DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no earlier space to go back to'
            USING ERRCODE = 'LK004', HINT = 'lookalike.space_switches lists the switches; a space may have been dropped since.';
    END IF;
    PERFORM lookalike.activate_space(earlier, force => true);
    RETURN earlier;
END
$$;
