-- Grant each group role of lookalike.roles_check the rights that it needs in this database, and no more.
--
-- Roles that the cluster lacks are skipped. The owner of the schema may run this again at any time. It also runs
-- when an embedding space is created.
--
-- Roles:
--   lookalike_reader  reads everything but keys, stored answers, query images and kept searches; searches
--   lookalike_writer  also writes images; the triggers queue jobs and remove stale embeddings with its rights
--   lookalike_worker  reads the same, takes jobs, writes embeddings and the properties of image files; checks the
--                     recall of kept searches and sets index options by it
--   lookalike_api     has the rights of the writer, and uses query images and idempotent answers; reads keys and
--                     records their use
--
-- Writer and API may keep searches to be checked, but read none.
--
-- Example:
--     SELECT lookalike.grant_privileges();

-- No function runs with the rights of its owner: a role may do what it may do to the tables.
CREATE OR REPLACE FUNCTION lookalike.grant_privileges() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    grantee text;
    spaces text;
    readable text;
BEGIN
    -- Those that are there by now, and the candidates that triggers keep beside them.
    SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.relname) INTO spaces
    FROM pg_class c
    WHERE c.relnamespace = 'lookalike'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^(embeddings|candidates)_[0-9]+$';
    SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.relname) INTO readable
    FROM pg_class c
    WHERE c.relnamespace = 'lookalike'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
      AND c.relname NOT IN ('api_keys', 'api_answers', 'query_images', 'search_samples');
    FOR grantee IN SELECT c.role FROM lookalike.roles_check c WHERE c.present LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA lookalike TO %I', grantee);
        EXECUTE format('GRANT SELECT ON %s TO %I', readable, grantee);
        EXECUTE format('GRANT SELECT (id) ON lookalike.search_samples TO %I', grantee);
        IF grantee IN ('lookalike_writer', 'lookalike_api') THEN
            EXECUTE format('GRANT INSERT ON lookalike.search_samples, lookalike.data_changes TO %I', grantee);
            EXECUTE format('GRANT INSERT, UPDATE, DELETE ON lookalike.images, lookalike.jobs TO %I', grantee);
            EXECUTE format('GRANT DELETE ON lookalike.failures TO %I', grantee);
            IF spaces IS NOT NULL THEN
                EXECUTE format('GRANT DELETE ON %s TO %I', spaces, grantee);
            END IF;
        END IF;
        IF grantee = 'lookalike_api' THEN
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON lookalike.query_images, lookalike.api_answers TO %I',
                           grantee);
            EXECUTE format('GRANT SELECT, UPDATE (last_used_at) ON lookalike.api_keys TO %I', grantee);
        END IF;
        IF grantee = 'lookalike_worker' THEN
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON lookalike.jobs, lookalike.failures, '
                           'lookalike.workers, lookalike.query_images, lookalike.latencies, lookalike.search_samples, '
                           'lookalike.recall_checks, lookalike.recall_adjustments, lookalike.worker_costs TO %I', grantee);
            EXECUTE format('GRANT INSERT ON lookalike.data_changes TO %I', grantee);
            EXECUTE format('GRANT UPDATE (index_options) ON lookalike.embedding_spaces TO %I', grantee);
            EXECUTE format('GRANT UPDATE (sha256, media_type, width, height) ON lookalike.images TO %I', grantee);
            IF spaces IS NOT NULL THEN
                EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %s TO %I', spaces, grantee);
            END IF;
        END IF;
    END LOOP;
END
$$;
