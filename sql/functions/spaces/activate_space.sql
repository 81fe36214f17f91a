-- Make a space the active one, from the commit on.
--
-- Then gallery, embedding_of, search and similar use it. A statement sees one space or the other, never both. The
-- switch waits for running searches, and new ones wait for it: set lock_timeout (200 ms, say) if a search may be
-- long. lookalike.space_switches records each switch.
--
-- Arguments:
--   space_name  the embedding space
--   force       whether to switch although images or the index are missing
--
-- Raises P0002 if there is no such space. Raises LK004, unless forced, if the space lacks images that can be found
-- now or an index that the active space has.
--
-- Example:
--     SELECT lookalike.activate_space('tf_efficientnet_lite0');
CREATE OR REPLACE FUNCTION lookalike.activate_space(space_name text, force boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    chosen lookalike.embedding_spaces := lookalike.space_named(space_name);
    before lookalike.embedding_spaces;
    lack record;
BEGIN
    -- Two switches at once come one after the other; and who may not write here is told so first.
    PERFORM FROM lookalike.embedding_spaces s WHERE s.id = chosen.id FOR UPDATE;
    SELECT * INTO before FROM lookalike.embedding_spaces s WHERE s.active;
    IF before.id = chosen.id THEN
        RETURN;
    ELSIF before.id IS NOT NULL THEN
        SELECT * INTO lack FROM lookalike.space_missing(space_name);
        IF NOT force AND lack.missing > 0 THEN
            RAISE EXCEPTION 'space % is not complete: % images that can be found now would be missing (% queued, % failed, '
                '% neither)', space_name, lack.missing, lack.queued, lack.failed, lack.missing - lack.queued - lack.failed
                USING ERRCODE = 'LK004', HINT = 'Let the workers finish (lookalike space backfill), mend the failures, or '
                    'force it (lookalike space activate --force).';
        ELSIF NOT force AND lack.index_missing THEN
            RAISE EXCEPTION 'space % has no index yet, and space % has one: searches would become exact and slow',
                space_name, before.name
                USING ERRCODE = 'LK004', HINT = 'A worker that serves it builds one when its queue is drained; build it now '
                    '(lookalike index rebuild ' || space_name || '), or force the switch (lookalike space activate --force).';
        END IF;
    END IF;
    SELECT * INTO chosen FROM lookalike.embedding_spaces s WHERE s.id = chosen.id;
    PERFORM lookalike.show_space(chosen, (chosen.index_options ->> 'transform')::smallint);
    UPDATE lookalike.embedding_spaces s SET active = false WHERE s.active AND s.id <> chosen.id;
    UPDATE lookalike.embedding_spaces s SET active = true WHERE s.id = chosen.id;
    IF before.id IS NOT NULL THEN
        INSERT INTO lookalike.space_switches (from_space, to_space, missing, forced)
        VALUES (before.name, chosen.name, lack.missing, force);
    END IF;
    PERFORM pg_notify('lookalike_spaces', '');
END
$$;
