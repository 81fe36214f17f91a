-- Create an embedding space with its table lookalike.embeddings_<id>, and return its id.
--
-- The space becomes active if no other is. Images that exist already are not queued: call
-- lookalike.enqueue_missing after this transaction has committed and the writers that began before it have ended,
-- because their triggers do not see the new space. `lookalike space create` does all of it.
--
-- Arguments:
--   space_name     lower-case letters, digits, _ and -; begins with a letter
--   model          name of a timm model
--   dimensions     of its embeddings, 1 to 4000
--   preprocessing  timm data config
--   fingerprint    of model, preprocessing and weights together
--   weights        path of a local weight file; NULL for the model's own
--   index_options  the index choice; NULL for HNSW with m 16 and ef_construction 64
--
-- Raises 22023 for a name or dimension that is not valid, and 23505 if a space has this name or fingerprint.
--
-- Example:
--     SELECT lookalike.create_space('small', 'resnet18', 512, '{"input_size": [3, 224, 224]}', 'resnet18-1');
CREATE OR REPLACE FUNCTION lookalike.create_space(
    space_name text, model text, dimensions int, preprocessing jsonb, fingerprint text,
    weights text DEFAULT NULL, index_options jsonb DEFAULT NULL
) RETURNS smallint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    new_id smallint;
    twin text;
BEGIN
    IF space_name !~ '^[a-z][a-z0-9_-]{0,62}$' THEN
        RAISE EXCEPTION 'embedding space name % is not usable', quote_literal(space_name)
            USING ERRCODE = '22023', HINT = 'Use lower-case letters, digits, _ and -, beginning with a letter.';
    END IF;
    IF dimensions NOT BETWEEN 1 AND 4000 THEN
        RAISE EXCEPTION 'an embedding space cannot have % dimensions', dimensions
            USING ERRCODE = '22023', HINT = 'halfvec under HNSW takes 1 to 4000.';
    END IF;
    SELECT s.name INTO twin FROM lookalike.embedding_spaces s WHERE s.fingerprint = create_space.fingerprint;
    IF FOUND THEN
        RAISE EXCEPTION 'space % has the same model, preprocessing and weights already', quote_literal(twin)
            USING ERRCODE = '23505', HINT = 'Two of the same would hold the same embeddings.';
    END IF;
    INSERT INTO lookalike.embedding_spaces
        (name, model, weights, dimensions, preprocessing, fingerprint, index_options, table_name)
    VALUES (space_name, model, weights, dimensions, preprocessing, fingerprint,
            CASE WHEN index_options ? 'kind' THEN index_options
                 ELSE '{"kind": "hnsw", "m": 16, "ef_construction": 64}'::jsonb || coalesce(index_options, '{}') END, '')
    RETURNING id INTO new_id;
    UPDATE lookalike.embedding_spaces s SET table_name = 'embeddings_' || new_id WHERE s.id = new_id;
    EXECUTE format($ddl$
        CREATE TABLE lookalike.%1$I (
            image_id bigint PRIMARY KEY REFERENCES lookalike.images (id) ON DELETE CASCADE,
            embedding halfvec(%2$s) STORAGE PLAIN NOT NULL
        )
        $ddl$, 'embeddings_' || new_id, dimensions);
    EXECUTE format('COMMENT ON TABLE lookalike.%I IS %L', 'embeddings_' || new_id,
                   format('Unit-length embeddings of space %s (%s)', space_name, model));
    PERFORM lookalike.tune_autovacuum();
    IF NOT EXISTS (SELECT FROM lookalike.embedding_spaces s WHERE s.active) THEN
        PERFORM lookalike.activate_space(space_name);
    END IF;
    PERFORM pg_notify('lookalike_spaces', '');
    RETURN new_id;
END
$$;
