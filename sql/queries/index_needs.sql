-- What the estimate of an index build goes by: rows (counted to 100,000, beyond that the planner's estimate), settings in
-- bytes, and where the index will lie, NULL where this role may not know it.
SELECT lookalike.count_about(s.table_name, 100000) AS rows,
       pg_size_bytes(current_setting('maintenance_work_mem')) AS memory_set,
       current_setting('max_parallel_maintenance_workers')::int AS workers,
       current_setting('max_parallel_workers')::int AS workers_most,
       pg_size_bytes(current_setting('max_wal_size')) AS wal_most,
       coalesce(
           (SELECT nullif(pg_tablespace_location(t.oid), '') FROM pg_tablespace t
            WHERE t.spcname = current_setting('default_tablespace')
               OR (current_setting('default_tablespace') = ''
                   AND t.oid = (SELECT d.dattablespace FROM pg_database d WHERE d.datname = current_database()))),
           (SELECT v.setting FROM pg_settings v WHERE v.name = 'data_directory')) AS folder,
       (SELECT v.setting FROM pg_settings v WHERE v.name = 'data_directory') AS data_directory,
       extract(epoch FROM pg_postmaster_start_time())::float8 AS server_started
FROM lookalike.embedding_spaces s
WHERE s.id = :'space_id'::smallint;
