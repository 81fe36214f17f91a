-- Drop a space with its embeddings, index, jobs, failures, query images, transforms and candidates.
--
-- Writers to images wait for it and it waits for them, because their triggers must not meet half a space: set
-- lock_timeout if one of them may be long. If there are millions of jobs, delete them before, in parts.
--
-- Raises P0002 if there is no such space, and LK004 if it is active or an object of your own depends on its table.
--
-- Example:
--     SELECT lookalike.create_space('small', 'resnet18', 512, '{"input_size": [3, 224, 224]}', 'resnet18-1');
--     SELECT lookalike.drop_space('small');
CREATE OR REPLACE FUNCTION lookalike.drop_space(space_name text) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    gone lookalike.embedding_spaces := lookalike.space_named(space_name);
    detail text;
    candidates text;
BEGIN
    -- All that DROP TABLE will want of images, at once: a lock that is raised in two steps can meet a deadlock.
    LOCK TABLE lookalike.images IN ACCESS EXCLUSIVE MODE;
    SELECT * INTO gone FROM lookalike.embedding_spaces s WHERE s.id = gone.id FOR UPDATE;
    IF gone.active THEN
        RAISE EXCEPTION 'space % is the active one', space_name
            USING ERRCODE = 'LK004', HINT = 'Activate another before, or go back: lookalike space activate, rollback.';
    END IF;
    BEGIN
        FOR candidates IN SELECT 'candidates_' || t.id FROM lookalike.transforms t WHERE t.space_id = gone.id LOOP
            EXECUTE format('DROP TABLE IF EXISTS lookalike.%I RESTRICT', candidates);
        END LOOP;
        DELETE FROM lookalike.embedding_spaces s WHERE s.id = gone.id;
        EXECUTE format('DROP TABLE lookalike.%I RESTRICT', gone.table_name);
    EXCEPTION WHEN dependent_objects_still_exist THEN
        GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
        RAISE EXCEPTION 'space % is in use: %', space_name, replace(detail, E'\n', '; ')
            USING ERRCODE = 'LK004', HINT = 'Drop those first, or let them stand on lookalike.gallery.';
    END;
    PERFORM pg_notify('lookalike_spaces', '');
END
$$;
