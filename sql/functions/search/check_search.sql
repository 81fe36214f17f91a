-- Internal: raise 22023 for the first argument of lookalike.search that is out of range; lookalike.search_plan calls it.
CREATE OR REPLACE FUNCTION lookalike.check_search(
    k int, max_distance float8, recall float8, ef_search int, strategy text
) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM lookalike.check_range('k', k, 1, 10000);
    IF max_distance < 0 OR max_distance = 'NaN' THEN
        RAISE EXCEPTION 'max_distance is %, but must be 0 or more', max_distance USING ERRCODE = '22023';
    ELSIF recall IS NULL OR NOT (recall > 0 AND recall <= 1) THEN
        RAISE EXCEPTION 'recall is %, but must be above 0 and at most 1', coalesce(recall::text, 'NULL')
            USING ERRCODE = '22023';
    ELSIF ef_search IS NOT NULL THEN
        PERFORM lookalike.check_range('ef_search', ef_search, 1, 1000);
    END IF;
    IF strategy IS NULL OR strategy NOT IN ('auto', 'exact', 'index') THEN
        RAISE EXCEPTION 'strategy is %, but must be auto, exact or index', coalesce(quote_literal(strategy), 'NULL')
            USING ERRCODE = '22023';
    END IF;
END
$$;
