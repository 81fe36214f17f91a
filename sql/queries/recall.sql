-- name: adjust_recall
-- Deepen searches if recall is below its goal; no row if nothing changes. See lookalike.adjust_recall.
SELECT s.name AS space, a.adjusted_at, a.adjusted_by, a.from_depth, a.to_depth, a.reason
FROM lookalike.adjust_recall(:'space_id'::smallint, :'most'::float8) a
JOIN lookalike.embedding_spaces s ON s.id = a.space_id;

-- name: next_sample
-- The oldest sampled search of the active space after the given id.
SELECT s.id FROM lookalike.search_samples s
WHERE s.id > :'after'::bigint AND s.space_id = (SELECT a.id FROM lookalike.active_space() a)
ORDER BY s.id LIMIT 1;

-- name: recall_adjustments
-- Changes of the search depth, latest first, with the fields of RecallAdjustment.
SELECT s.name AS space, a.adjusted_at, a.adjusted_by, a.from_depth, a.to_depth, a.reason
FROM lookalike.recall_adjustments a JOIN lookalike.embedding_spaces s ON s.id = a.space_id
ORDER BY a.id DESC LIMIT :'most'::int;

-- name: recall_spent
-- Seconds that recall checks took in the last minute and in the last hour, and the mean of one check.
SELECT coalesce(sum(c.seconds) FILTER (WHERE c.checked_at > clock_timestamp() - interval '1 minute'), 0) AS minute,
       coalesce(sum(c.seconds), 0) AS hour, coalesce(avg(c.seconds), 0) AS one
FROM lookalike.recall_checks c
WHERE c.checked_at > clock_timestamp() - interval '1 hour';

-- name: recall_status
-- The view lookalike.recall_status with the fields of RecallEstimate: active space first, shortest period first, totals
-- before their parts.
SELECT r.space, extract(epoch FROM r.period)::int AS period_seconds, r.plan, r.selectivity, r.searches, r.recall, r.low, r.high,
       r.goal, r.below, r.unchecked, r.seconds
FROM lookalike.recall_status r
ORDER BY r.active DESC, r.space_id, r.period, r.selectivity NULLS FIRST, r.plan NULLS FIRST;

-- name: recall_trend
-- The view lookalike.recall_trend for the active space, with the fields of RecallPoint: the latest `most` points.
SELECT t.began_at, t.searches, t.recall, t.low, t.high, t.goal
FROM (SELECT r.* FROM lookalike.recall_trend r
      WHERE r.active AND r.step = :'step' ORDER BY r.began_at DESC LIMIT :'most'::int) t
ORDER BY t.began_at;

-- name: sample_search
-- Store a search for a later recall check; see lookalike.sample_search.
SELECT lookalike.sample_search(
    :'query'::halfvec, :'k'::int, :'filter'::jsonb, :'max_distance'::float8, :'exclude'::bigint[],
    coalesce(:'recall'::float8, 0.99), coalesce(:'strategy'::text, 'auto'), image_id => :'image_id'::bigint,
    proven => :'proven'::boolean, source => :'source'::text, space => :'space'::text);

-- name: set_search_depth
-- Set the search depth of a space; see lookalike.set_search_depth.
SELECT s.name AS space, a.adjusted_at, a.adjusted_by, a.from_depth, a.to_depth, a.reason
FROM lookalike.set_search_depth(:'space_id'::smallint, :'depth'::float8) a
JOIN lookalike.embedding_spaces s ON s.id = a.space_id;
