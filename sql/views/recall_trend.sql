-- Measured recall of live searches by hour and by day, for as long as checks are kept.
--
-- See lookalike.recall_status.
--
-- Columns:
--   space_id  the embedding space
--   space     its name
--   active    whether the space is active
--   step      hour or day
--   began_at  when the hour or day began
--   searches  searches that were checked
--   recall    their mean recall
--   low       lower end of its 95 % confidence interval
--   high      upper end of its 95 % confidence interval
--   goal      mean recall that the searches asked for, or index_options {"recall_goal": x}
--
-- Example:
--     SELECT began_at, searches, recall, low, high FROM lookalike.recall_trend WHERE active AND step = 'hour';
CREATE OR REPLACE VIEW lookalike.recall_trend AS
SELECT g.space_id, g.space, g.active, g.step, g.began_at, g.searches, g.recall, greatest(g.recall - g.margin, 0) AS low,
       least(g.recall + g.margin, 1) AS high, g.goal
FROM (
    SELECT s.id AS space_id, s.name AS space, s.active, p.step, date_trunc(p.step, c.checked_at) AS began_at,
           count(c.recall) AS searches, avg(c.recall) AS recall,
           lookalike.recall_margin(count(c.recall), avg(c.recall), sum(c.recall * c.recall)) AS margin,
           coalesce((s.index_options ->> 'recall_goal')::float8, avg(c.asked)) AS goal
    FROM lookalike.recall_checks c
    JOIN lookalike.embedding_spaces s ON s.id = c.space_id
    CROSS JOIN (VALUES ('hour'), ('day')) AS p (step)
    WHERE c.recall IS NOT NULL
    GROUP BY s.id, s.name, s.active, s.index_options, p.step, date_trunc(p.step, c.checked_at)
) g;
