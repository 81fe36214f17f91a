-- Internal: make the views and functions of the active space show this space and transform.
--
-- `transform` is NULL for no candidates. It waits for running searches, and new ones wait for it.
-- lookalike.activate_space and choose_index call it.
CREATE OR REPLACE FUNCTION lookalike.show_space(space lookalike.embedding_spaces, transform smallint) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    fitted lookalike.transforms;
BEGIN
    -- The view that every search reads first comes first: two locks taken in another order could meet a deadlock.
    EXECUTE format(
        'CREATE OR REPLACE VIEW lookalike.active_embeddings AS '
        'SELECT e.image_id, e.embedding::halfvec AS embedding FROM lookalike.%I e', space.table_name);
    IF transform IS NULL THEN
        CREATE OR REPLACE VIEW lookalike.active_candidates AS
        SELECT NULL::bigint AS image_id, NULL::"bit" AS bits, NULL::halfvec AS reduced WHERE false;
    ELSE
        SELECT * INTO STRICT fitted FROM lookalike.transforms t WHERE t.id = transform AND t.space_id = space.id;
        EXECUTE format(
            'CREATE OR REPLACE VIEW lookalike.active_candidates AS SELECT c.image_id, %s AS bits, %s AS reduced '
            'FROM lookalike.%I c',
            CASE WHEN fitted.bits IS NULL THEN 'NULL::"bit"' ELSE 'c.bits::"bit"' END,
            CASE WHEN fitted.dimensions IS NULL THEN 'NULL::halfvec' ELSE 'c.reduced::halfvec' END,
            'candidates_' || transform);
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION lookalike.active_space_id() RETURNS smallint LANGUAGE sql STABLE '
                   'AS $sql$ SELECT %s::smallint $sql$', space.id);
    EXECUTE format('CREATE OR REPLACE FUNCTION lookalike.active_transform_id() RETURNS smallint LANGUAGE sql STABLE '
                   'AS $sql$ SELECT %s::smallint $sql$', coalesce(transform::text, 'NULL'));
END
$$;
