-- Keep a search so that its recall can be checked later, and return whether it was kept.
--
-- lookalike.search is STABLE and keeps nothing, so call this after it with the same arguments. Workers check kept
-- searches when they have time; lookalike.recall_status shows the results. Nothing is kept on a standby, in a
-- read-only transaction, or if 1,000 searches wait already.
--
-- Arguments:
--   query     as for lookalike.search; so are k, filter, max_distance, exclude, recall and strategy
--   share     probability that the search is kept
--   image_id  in place of a query: a stored image, as for lookalike.similar
--   proven    whether the answer is known to be exact
--   source    who searched: sql, api or cli
--   space     the space that answered; if another one is active now, nothing is kept
--
-- Raises 22023 if share is not between 0 and 1.
--
-- Example:
--     SELECT * FROM lookalike.search(lookalike.embedding_of(42), 10);
--     SELECT lookalike.sample_search(lookalike.embedding_of(42), 10, share => 0.01);
CREATE OR REPLACE FUNCTION lookalike.sample_search(
    query halfvec, k int DEFAULT 10, filter jsonb DEFAULT NULL, max_distance float8 DEFAULT NULL,
    exclude bigint[] DEFAULT NULL, recall float8 DEFAULT 0.99, strategy text DEFAULT 'auto', share float8 DEFAULT 1,
    image_id bigint DEFAULT NULL, proven boolean DEFAULT false, source text DEFAULT 'sql', space text DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
DECLARE
    answered lookalike.embedding_spaces;
    kept bigint;
BEGIN
    IF share IS NULL OR NOT share BETWEEN 0 AND 1 THEN
        RAISE EXCEPTION 'share is %, but must be 0 to 1', coalesce(share::text, 'NULL') USING ERRCODE = '22023';
    ELSIF random() >= share OR current_setting('transaction_read_only')::boolean THEN
        RETURN false;
    END IF;
    answered := lookalike.active_space();
    IF answered.name <> sample_search.space THEN
        RETURN false;
    END IF;
    query := lookalike.query_unit(coalesce(query, lookalike.embedding_of(image_id)));
    INSERT INTO lookalike.search_samples
        (space_id, source, query, k, filter, max_distance, exclude, recall, strategy, proven)
    SELECT answered.id, sample_search.source, sample_search.query, sample_search.k,
           nullif(sample_search.filter, '{}'), sample_search.max_distance,
           coalesce(sample_search.exclude, '{}') || array_remove(ARRAY[sample_search.image_id], NULL),
           sample_search.recall, sample_search.strategy, sample_search.proven
    WHERE (SELECT count(*) FROM (SELECT s.id FROM lookalike.search_samples s LIMIT 1000) waiting) < 1000;
    GET DIAGNOSTICS kept = ROW_COUNT;
    RETURN kept > 0;
END
$$;
