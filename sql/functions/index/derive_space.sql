-- Internal: create a space that holds another space's embeddings in a reduced form, and return its id.
--
-- `transform`, which was fitted for the space `source_name`, moves to the new space. From then on it reduces what
-- the workers encode, and queries. The two spaces are independent: the source may be dropped. It neither copies
-- nor queues images: see lookalike.adopt_embeddings and lookalike.enqueue_missing. `lookalike space create --from`
-- calls it.
CREATE OR REPLACE FUNCTION lookalike.derive_space(
    space_name text, source_name text, transform smallint, index_options jsonb DEFAULT NULL
) RETURNS smallint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    source lookalike.embedding_spaces := lookalike.space_named(source_name);
    fitted lookalike.transforms;
    new_id smallint;
BEGIN
    SELECT * INTO STRICT fitted FROM lookalike.transforms t WHERE t.id = transform AND t.space_id = source.id;
    IF source.transform_id IS NOT NULL THEN
        RAISE EXCEPTION 'space % holds a reduced form itself', source_name
            USING ERRCODE = '22023', HINT = 'Derive from a space of whole embeddings.';
    END IF;
    new_id := lookalike.create_space(space_name, source.model, fitted.dimensions, source.preprocessing,
                                     source.fingerprint || '/' || fitted.fingerprint, source.weights, index_options);
    UPDATE lookalike.transforms t SET space_id = new_id, filled_at = clock_timestamp() WHERE t.id = transform;
    UPDATE lookalike.embedding_spaces s SET transform_id = transform, encoded_dimensions = source.dimensions
    WHERE s.id = new_id;
    RETURN new_id;
END
$$;
