-- Keeps a search, so that its recall can be checked when there is time; see lookalike.check_sample. Returns whether it
-- was kept. `share` of the calls are, by chance; none on a standby or in a transaction that reads only, and none while
-- 1,000 wait. lookalike.search itself keeps nothing, since it is STABLE: call this after it, with the same arguments.
--   query, k, filter, max_distance, exclude, recall, strategy   those of lookalike.search
--   image_id      in place of a query: a stored image, as lookalike.similar takes it
--   proven        whether the answer given is known to be exact, whatever lookalike.search would have said
--   source        who searched: sql, api, cli
--   space         the space that answered; where another one is active by now, nothing is kept
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
