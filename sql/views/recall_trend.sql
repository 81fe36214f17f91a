-- The recall of live searches hour by hour and day by day (`step`), for as long as checks are kept: a row a space, step and
-- moment at which it begins, with the 95 % confidence interval of the mean; see lookalike.recall_status.
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
