-- The ANN indexes of one space, or of all where `space_id` is NULL, with the options they were built with.
SELECT x.space, x.space_active AS active, x.name, x.kind, x.valid, NOT x.valid AND x.building AS building,
       coalesce(x.bytes, 0) AS bytes, coalesce(x.scans, 0) AS scans,
       x.table_name, x.serving,
       CASE WHEN x.kind = 'hnsw' THEN coalesce(
           (SELECT o.option_value::int FROM pg_options_to_table(x.options) o WHERE o.option_name = 'm'), 16) END AS m,
       CASE WHEN x.kind = 'hnsw' THEN coalesce(
           (SELECT o.option_value::int FROM pg_options_to_table(x.options) o WHERE o.option_name = 'ef_construction'),
           64) END AS ef_construction,
       CASE WHEN x.kind = 'ivfflat' THEN coalesce(
           (SELECT o.option_value::int FROM pg_options_to_table(x.options) o WHERE o.option_name = 'lists'), 100) END AS lists
FROM lookalike.ann_indexes x
WHERE :'space_id'::smallint IS NULL OR x.space_id = :'space_id'::smallint
ORDER BY x.space_id, x.name;
