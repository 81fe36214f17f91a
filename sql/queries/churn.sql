-- What changes have left behind in the tables of all spaces: rows, dead rows that vacuum has not removed, and the index that
-- serves; besides, the recall of the last day's searches, as far as it was checked. `rows` and `dead` are the statistics' (right to within a second or two, and since the last crash).
SELECT s.id AS space_id, s.name AS space, s.dimensions, coalesce(u.n_live_tup, 0) AS rows,
       coalesce(u.n_dead_tup, 0) AS dead, x.name AS index, coalesce(x.bytes, 0) AS index_bytes,
       coalesce((SELECT o.option_value::int FROM pg_options_to_table(x.options) o WHERE o.option_name = 'm'), 16) AS m,
       greatest(u.last_vacuum, u.last_autovacuum) AS vacuumed_at, r.recall, r.goal, coalesce(r.below, false) AS below
FROM lookalike.embedding_spaces s
JOIN pg_stat_user_tables u ON u.relid = to_regclass(format('lookalike.%I', s.table_name))
LEFT JOIN lookalike.ann_indexes x ON x.space_id = s.id AND x.valid AND x.name = s.table_name || '_hnsw'
LEFT JOIN lookalike.recall_status r
    ON r.space_id = s.id AND r.period = interval '1 day' AND r.plan IS NULL AND r.selectivity IS NULL
ORDER BY s.active DESC, s.id;
