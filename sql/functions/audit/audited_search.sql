-- Return the exact k nearest images, each row with the space, its fingerprint and the version of its data.
--
-- The same query with the same fingerprint and data version gives the same answer: nothing is approximated, ties
-- are ordered by id, and all is read in one snapshot. The arguments are those of lookalike.search.
--
-- Columns:
--   id            the image
--   distance      L2 distance to the query
--   space         the embedding space that answered
--   fingerprint   of its model, preprocessing and weights
--   data_version  of its data; see lookalike.data_version
--
-- Raises LK004 if the active space is not audited; see lookalike.audit_space.
--
-- Example:
--     SELECT lookalike.audit_space('tf_efficientnet_lite0');
--     SELECT * FROM lookalike.audited_search(lookalike.embedding_of(42), 5);
CREATE OR REPLACE FUNCTION lookalike.audited_search(
    query halfvec, k int DEFAULT 10, filter jsonb DEFAULT NULL, max_distance float8 DEFAULT NULL,
    exclude bigint[] DEFAULT NULL
) RETURNS TABLE (id bigint, distance float8, space text, fingerprint text, data_version bigint)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    answering lookalike.embedding_spaces;
    state bigint;
BEGIN
    SELECT s.* INTO answering FROM lookalike.embedding_spaces s WHERE s.id = lookalike.active_space_id();
    state := lookalike.data_version(answering.id);
    IF state IS NULL THEN
        RAISE EXCEPTION 'space % is not audited, so no answer can say by which data it was given', quote_literal(answering.name)
            USING ERRCODE = 'LK004', HINT = format('SELECT lookalike.audit_space(%L) counts its changes from then on.',
                                                   answering.name);
    END IF;
    RETURN QUERY
    SELECT n.id, n.distance, answering.name, answering.fingerprint, state
    FROM lookalike.search(query, k, filter, max_distance, exclude, 1, strategy => 'exact') n;
END
$$;
