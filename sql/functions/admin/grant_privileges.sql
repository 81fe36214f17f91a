-- Grants the group roles of lookalike.roles_check what each needs and no more, in this database; those that the cluster
-- lacks are passed over. It may be run again at any time by the owner of the schema, and runs by itself when an embedding
-- space is made. No function runs with its owner's rights: what a role may do is what it may do to the tables.
--   lookalike_reader  reads everything but keys, stored answers, query images and kept searches; searches
--   lookalike_writer  and writes images; their triggers queue jobs and remove what is out of date, by its rights
--   lookalike_worker  reads the same, takes jobs, writes embeddings and what the bytes of an image say of it; checks the
--                     recall of kept searches and sets index options by it
--   lookalike_api     the writer's rights, query images, idempotent answers; reads keys and notes their use
-- Writer and API keep searches to be checked, and read none.
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
