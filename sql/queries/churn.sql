-- What changes have left behind in the tables of all spaces: rows, dead rows that vacuum has not removed (in the embeddings or
-- their candidates, whichever has more), and the index that serves, on what it holds: halfvecs of `dimensions`, or of as
-- many bytes. Besides, the recall of the last day's searches, as far as it was checked. `rows` is exact up to
-- 10,000 and the planner's estimate beyond; `dead` is the statistics', bounded by what fits in the table.
SELECT s.id AS space_id, s.name AS space,
       CASE WHEN t.id IS NULL THEN s.dimensions ELSE coalesce(t.bits / 16, t.dimensions) END AS dimensions,
       n.rows,
       greatest(lookalike.dead_about(s.table_name, n.rows), lookalike.dead_about('candidates_' || t.id, n.rows), 0) AS dead,
       x.name AS index,
       coalesce(x.bytes, 0) AS index_bytes, coalesce(x.m, 16) AS m, x.lists,
       greatest(u.last_vacuum, u.last_autovacuum) AS vacuumed_at, r.recall, r.goal, coalesce(r.below, false) AS below
FROM lookalike.embedding_spaces s
JOIN pg_stat_user_tables u ON u.relid = to_regclass(format('lookalike.%I', s.table_name))
CROSS JOIN LATERAL (SELECT lookalike.count_about(s.table_name, 10000) AS rows OFFSET 0) n
LEFT JOIN lookalike.transforms t ON t.id = (s.index_options ->> 'transform')::int
LEFT JOIN LATERAL (
    SELECT i.name, i.bytes,
           (SELECT o.option_value::int FROM pg_options_to_table(i.options) o WHERE o.option_name = 'm') AS m,
           (SELECT o.option_value::int FROM pg_options_to_table(i.options) o WHERE o.option_name = 'lists') AS lists
    FROM lookalike.ann_indexes i
    WHERE i.space_id = s.id AND i.serving AND i.valid AND i.name = i.table_name || '_' || i.kind
) x ON true
LEFT JOIN lookalike.recall_status r
    ON r.space_id = s.id AND r.period = interval '1 day' AND r.plan IS NULL AND r.selectivity IS NULL
ORDER BY s.active DESC, s.id;
