-- Make the space active again that was active before the last switch, and return its name.
--
-- A second call goes back by one switch more; a switch back counts as undone, never as a switch to undo. It does not
-- check for missing images, because triggers and workers have kept that space up to date.
--
-- Raises LK004 if there is no earlier space, or it was dropped.
--
-- Example:
--     SELECT lookalike.create_space('small', 'resnet18', 512, '{"input_size": [3, 224, 224]}', 'resnet18-1');
--     SELECT lookalike.activate_space('small', force => true);
--     SELECT lookalike.rollback_space();
CREATE OR REPLACE FUNCTION lookalike.rollback_space() RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    spaces text[] := ARRAY(SELECT s.name FROM lookalike.embedding_spaces s);
    path text[] := '{}';  -- the spaces that led to the active one, which is the last; without dropped ones
    switch record;
    earlier text;
BEGIN
    FOR switch IN SELECT w.from_space, w.to_space FROM lookalike.space_switches w ORDER BY w.id LOOP
        IF path = '{}' AND switch.from_space = ANY (spaces) THEN
            path := ARRAY[switch.from_space];
        END IF;
        IF path[cardinality(path) - 1] = switch.to_space THEN
            path := trim_array(path, 1);
        ELSIF switch.to_space = ANY (spaces) THEN
            path := path || switch.to_space;
        END IF;
    END LOOP;
    earlier := path[cardinality(path) - 1];
    IF earlier IS NULL THEN
        RAISE EXCEPTION 'there is no earlier space to go back to'
            USING ERRCODE = 'LK004', HINT = 'lookalike.space_switches lists the switches; a space may have been dropped since.';
    END IF;
    PERFORM lookalike.activate_space(earlier, force => true);
    RETURN earlier;
END
$$;
