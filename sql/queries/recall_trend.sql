-- The view lookalike.recall_trend of the active space, in the order of records.RecallPoint, the latest `most` of a step.
SELECT t.began_at, t.searches, t.recall, t.low, t.high, t.goal
FROM (SELECT r.* FROM lookalike.recall_trend r
      WHERE r.active AND r.step = :'step' ORDER BY r.began_at DESC LIMIT :'most'::int) t
ORDER BY t.began_at;
