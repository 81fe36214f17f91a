-- Internal: drop a transform with its candidates, their index and triggers.
--
-- It waits for transactions that write embeddings, and they wait for it. Raises LK004 if searches of its space use
-- it.
CREATE OR REPLACE FUNCTION lookalike.drop_transform(transform smallint) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    space lookalike.embedding_spaces;
BEGIN
    SELECT s.* INTO space FROM lookalike.embedding_spaces s JOIN lookalike.transforms t ON t.space_id = s.id
    WHERE t.id = transform FOR UPDATE OF s;
    IF (space.index_options ->> 'transform')::smallint = transform THEN
        RAISE EXCEPTION 'searches of space % stand on transform %', space.name, transform
            USING ERRCODE = 'LK004', HINT = 'Choose another index first: lookalike index choose ' || space.name || ' hnsw';
    END IF;
    IF to_regclass(format('lookalike.%I', 'candidates_' || transform)) IS NOT NULL THEN
        -- Embeddings first, as their writers do it.
        EXECUTE format('LOCK TABLE lookalike.%I IN ACCESS EXCLUSIVE MODE', space.table_name);
        EXECUTE format('DROP TRIGGER %I ON lookalike.%I', 'candidates_' || transform || '_inserted', space.table_name);
        EXECUTE format('DROP TRIGGER %I ON lookalike.%I', 'candidates_' || transform || '_updated', space.table_name);
        EXECUTE format('DROP TRIGGER %I ON lookalike.%I', 'candidates_' || transform || '_deleted', space.table_name);
        EXECUTE format('DROP TRIGGER %I ON lookalike.%I', 'candidates_' || transform || '_emptied', space.table_name);
        EXECUTE format('DROP TABLE lookalike.%I', 'candidates_' || transform);
    END IF;
    DELETE FROM lookalike.transforms t WHERE t.id = transform;
END
$$;
