-- The view lookalike.recall_status, in the order of records.RecallEstimate: the active space first, the shortest period
-- first, the whole before its parts.
SELECT r.space, extract(epoch FROM r.period)::int AS period_seconds, r.plan, r.selectivity, r.searches, r.recall, r.low, r.high,
       r.goal, r.below, r.unchecked, r.seconds
FROM lookalike.recall_status r
ORDER BY r.active DESC, r.space_id, r.period, r.selectivity NULLS FIRST, r.plan NULLS FIRST;
