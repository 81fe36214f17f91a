-- name: adjust_recall
-- Makes searches deeper where recall is below its goal; no row where nothing is to be done. See lookalike.adjust_recall.
SELECT s.name AS space, a.adjusted_at, a.adjusted_by, a.from_depth, a.to_depth, a.reason
FROM lookalike.adjust_recall(:'space_id'::smallint, :'most'::float8) a
JOIN lookalike.embedding_spaces s ON s.id = a.space_id;

-- name: next_sample
-- The kept search of the active space that waits longest, after the one given.
SELECT s.id FROM lookalike.search_samples s
WHERE s.id > :'after'::bigint AND s.space_id = (SELECT a.id FROM lookalike.active_space() a)
ORDER BY s.id LIMIT 1;

-- name: recall_adjustments
-- Changes of the search depth, in the order of records.RecallAdjustment; the latest first.
SELECT s.name AS space, a.adjusted_at, a.adjusted_by, a.from_depth, a.to_depth, a.reason
FROM lookalike.recall_adjustments a JOIN lookalike.embedding_spaces s ON s.id = a.space_id
ORDER BY a.id DESC LIMIT :'most'::int;

-- name: recall_spent
-- Seconds that checks of recall took, in the last minute and in the last hour, and what one took on the average.
SELECT coalesce(sum(c.seconds) FILTER (WHERE c.checked_at > clock_timestamp() - interval '1 minute'), 0) AS minute,
       coalesce(sum(c.seconds), 0) AS hour, coalesce(avg(c.seconds), 0) AS one
FROM lookalike.recall_checks c
WHERE c.checked_at > clock_timestamp() - interval '1 hour';

-- name: recall_status
-- The view lookalike.recall_status, in the order of records.RecallEstimate: the active space first, the shortest period
-- first, the whole before its parts.
SELECT r.space, extract(epoch FROM r.period)::int AS period_seconds, r.plan, r.selectivity, r.searches, r.recall, r.low, r.high,
       r.goal, r.below, r.unchecked, r.seconds
FROM lookalike.recall_status r
ORDER BY r.active DESC, r.space_id, r.period, r.selectivity NULLS FIRST, r.plan NULLS FIRST;

-- name: recall_trend
-- The view lookalike.recall_trend of the active space, in the order of records.RecallPoint, the latest `most` of a step.
SELECT t.began_at, t.searches, t.recall, t.low, t.high, t.goal
FROM (SELECT r.* FROM lookalike.recall_trend r
      WHERE r.active AND r.step = :'step' ORDER BY r.began_at DESC LIMIT :'most'::int) t
ORDER BY t.began_at;

-- name: sample_search
-- Keeps a search to be checked later. See lookalike.sample_search.
SELECT lookalike.sample_search(
    :'query'::halfvec, :'k'::int, :'filter'::jsonb, :'max_distance'::float8, :'exclude'::bigint[],
    coalesce(:'recall'::float8, 0.99), coalesce(:'strategy'::text, 'auto'), image_id => :'image_id'::bigint,
    proven => :'proven'::boolean, source => :'source'::text, space => :'space'::text);

-- name: set_search_depth
-- Sets the search depth of a space. See lookalike.set_search_depth.
SELECT s.name AS space, a.adjusted_at, a.adjusted_by, a.from_depth, a.to_depth, a.reason
FROM lookalike.set_search_depth(:'space_id'::smallint, :'depth'::float8) a
JOIN lookalike.embedding_spaces s ON s.id = a.space_id;
