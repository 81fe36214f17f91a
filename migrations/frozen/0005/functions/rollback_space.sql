-- Make the space active that was active before the last switch, and return its name.
--
-- It does not check for missing images, because triggers and workers have kept that space up to date. Calling it
-- twice returns to the present space.
--
-- Raises LK004 if there was no switch, or that space was dropped.
--
-- Example:
--     SELECT lookalike.create_space('small', 'resnet18', 512, '{"input_size": [3, 224, 224]}', 'resnet18-1');
--     SELECT lookalike.activate_space('small', force => true);
--     SELECT lookalike.rollback_space();
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
