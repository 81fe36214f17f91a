-- Internal: store the index choice of a space, and switch its searches to it if the space is active.
--
-- The switch takes effect at the commit. `options` is the JSON form of the choice; its `transform` is the id of
-- the transform whose candidates are indexed. A search uses the old choice or the new one. The switch waits for
-- running searches: set lock_timeout if one of them may be long. New sessions get the probes of an IVFFlat index.
-- Raises LK004 if the table or index does not exist: `lookalike index choose` builds it first.
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
    IF options ->> 'kind' = 'staged' THEN  -- release 0008, which may still run, offers it
        RAISE EXCEPTION 'index choice bits(...)+pca(...)+rerank(...) is no longer supported'
            USING ERRCODE = 'LK004', HINT = 'Choose bits(...)+rerank(...).';
    END IF;
    UPDATE lookalike.embedding_spaces s SET index_options = options WHERE s.id = chosen.id;
    IF options ->> 'kind' = 'ivfflat' THEN
        -- For plain SELECT ... ORDER BY embedding <-> q: pgvector's own default is one list.
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
