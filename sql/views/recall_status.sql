-- Measured recall of live searches, one row per space, period, plan and class of filter.
--
-- Columns:
--   space_id     the embedding space
--   space        its name
--   active       whether the space is active
--   period       the last hour, day or 7 days
--   plan         plan of the searches; NULL: all plans
--   selectivity  class of the filter by the share of images that pass; NULL: all classes
--   searches     searches that were checked against an exact search
--   recall       their mean recall; ties count as found
--   low          lower end of its 95 % confidence interval
--   high         upper end of its 95 % confidence interval
--   goal         mean recall that the searches asked for, or index_options {"recall_goal": x}
--   below        whether the whole interval lies below the goal, in 30 searches or more
--   unchecked    searches that could not be checked; see lookalike.recall_checks.reason
--   seconds      time that the checks took
--
-- Example:
--     SELECT space, period, searches, recall, low, high, goal FROM lookalike.recall_status
--     WHERE plan IS NULL AND selectivity IS NULL;
CREATE OR REPLACE VIEW lookalike.recall_status AS
SELECT g.space_id, g.space, g.active, g.period, g.plan, g.selectivity, g.searches, g.recall,
       greatest(g.recall - g.margin, 0) AS low, least(g.recall + g.margin, 1) AS high, g.goal,
       g.searches >= 30 AND g.recall + g.margin < g.goal AS below, g.unchecked, g.seconds
FROM (
    SELECT s.id AS space_id, s.name AS space, s.active, p.period, c.plan, c.selectivity,
           count(c.recall) AS searches, avg(c.recall) AS recall,
           lookalike.recall_margin(count(c.recall), avg(c.recall), sum(c.recall * c.recall)) AS margin,
           coalesce((s.index_options ->> 'recall_goal')::float8, avg(c.asked)) AS goal,
           count(c.reason) AS unchecked, sum(c.seconds) AS seconds
    FROM lookalike.embedding_spaces s
    CROSS JOIN (VALUES (interval '1 hour'), (interval '1 day'), (interval '7 days')) AS p (period)
    JOIN (SELECT k.space_id, k.checked_at, k.plan, lookalike.selectivity_class(k.passing) AS selectivity, k.recall,
                 k.asked, k.reason, k.seconds
          FROM lookalike.recall_checks k) c
        ON c.space_id = s.id AND c.checked_at > statement_timestamp() - p.period
    GROUP BY s.id, s.name, s.active, s.index_options, p.period,
             GROUPING SETS ((), (c.plan), (c.selectivity), (c.plan, c.selectivity))
    -- What could not be checked has no plan: it counts in the whole alone.
    HAVING GROUPING(c.plan) = 1 AND GROUPING(c.selectivity) = 1 OR count(c.plan) > 0
) g;
