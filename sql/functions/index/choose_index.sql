-- Stores what the index of a space is (`options`: the JSON form of an index choice; `transform` in it is the id of the
-- transform whose candidates are indexed) and, where the space is active, has searches use it from the commit on: a
-- search sees one choice or the other. Waits for searches that run: set lock_timeout where a long one may be in its way.
-- What it names must be there: `lookalike index choose` builds it first. New sessions get the probes of an IVFFlat index.
CREATE OR REPLACE FUNCTION lookalike.choose_index(space_name text, options jsonb) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    chosen lookalike.embedding_spaces := lookalike.space_named(space_name);
    transform smallint := options ->> 'transform';
BEGIN
    SELECT * INTO chosen FROM lookalike.embedding_spaces s WHERE s.id = chosen.id FOR UPDATE;
    IF transform IS NOT NULL AND NOT EXISTS (
        SELECT FROM lookalike.transforms t WHERE t.id = transform AND t.space_id = chosen.id AND t.filled_at IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'transform % is not one of space % whose candidates are complete', transform, space_name
            USING ERRCODE = 'LK004', HINT = 'lookalike index choose builds what a choice needs.';
    END IF;
    UPDATE lookalike.embedding_spaces s SET index_options = options WHERE s.id = chosen.id;
    IF options ->> 'kind' = 'ivfflat' THEN
        -- For plain SELECT ... ORDER BY embedding <-> q, which pgvector answers from one list unless told otherwise.
        BEGIN
            EXECUTE format('ALTER DATABASE %I SET ivfflat.probes = %s', current_database(), coalesce(
                options ->> 'probes', lookalike.search_probes((options ->> 'lists')::int, 0.99)::text));
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'role % may not store ivfflat.probes for database %: SET it before plain SQL searches',
                current_user, current_database();
        END;
    END IF;
    IF chosen.active THEN
        PERFORM lookalike.show_space(chosen, transform);
    END IF;
END
$$;
