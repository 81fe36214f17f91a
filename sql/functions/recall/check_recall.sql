-- Return the recall of one search: it runs as lookalike.search runs it now, and then exactly.
--
-- Both run on one snapshot, so rows that come or go meanwhile do not count. The arguments are those of
-- lookalike.search.
--
-- Columns:
--   plan       exact; index; or index, then exact. All but `index` are exact, so no second search runs
--   ef_search  of the index search
--   passing    share of the images that pass the filter; NULL without a filter
--   expected   number of rows of the exact answer: k, or fewer if fewer match
--   hits       rows answered that are no farther than the last exact one, to 1e-3 so that ties count
--   search_ms  milliseconds of the search
--   exact_ms   milliseconds of the exact search
--
-- Example:
--     SELECT hits::float8 / expected AS recall FROM lookalike.check_recall(lookalike.embedding_of(42), 10);
CREATE OR REPLACE FUNCTION lookalike.check_recall(
    query halfvec, k int DEFAULT 10, filter jsonb DEFAULT NULL, max_distance float8 DEFAULT NULL,
    exclude bigint[] DEFAULT NULL, recall float8 DEFAULT 0.99, strategy text DEFAULT 'auto',
    OUT plan text, OUT ef_search int, OUT passing float8, OUT expected int, OUT hits int,
    OUT search_ms float8, OUT exact_ms float8
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET max_parallel_workers_per_gather = 0
AS $$
#variable_conflict use_column
DECLARE
    answer record;
    truth record;
    images float8;
BEGIN
    SELECT r.distances, r.plan INTO answer
    FROM lookalike.search_run(query, k, filter, max_distance, exclude, recall, NULL, strategy, true) r;
    truth := answer;
    IF NOT (answer.plan ->> 'proven')::boolean THEN
        SELECT r.distances, r.plan INTO truth
        FROM lookalike.search_run(query, k, filter, max_distance, exclude, 1, NULL, 'exact', true) r;
        exact_ms := truth.plan ->> 'ms';
    END IF;
    plan := answer.plan ->> 'strategy';
    ef_search := answer.plan ->> 'ef_search';
    search_ms := answer.plan ->> 'ms';
    expected := coalesce(cardinality(truth.distances), 0);
    SELECT least(count(*), expected) INTO hits
    FROM unnest(answer.distances) d WHERE d <= truth.distances[expected] + 1e-3;
    IF filter <> '{}' THEN
        SELECT c.reltuples INTO images FROM pg_class c WHERE c.oid = 'lookalike.images'::regclass;
        IF images <= 0 THEN
            images := lookalike.count_up_to('images', 100000);
        END IF;
        passing := least((truth.plan ->> 'passing')::float8 / greatest(images, 1), 1);
    END IF;
END
$$;
