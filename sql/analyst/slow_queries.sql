-- Which statements over lookalike cost the most time?
-- From pg_stat_statements, if that extension is installed here and you may read it (pg_read_all_stats). Otherwise
-- a note says so, and the statements that run now in this database are listed, the longest first.
-- Variables:
--   k  number of statements (default 10)
\if :{?k} \else \set k 10 \endif
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements')
       AND current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%' AS counted \gset
\if :counted
SELECT s.calls, round(s.total_exec_time::numeric) AS total_ms, round(s.mean_exec_time::numeric, 2) AS mean_ms,
       round(s.max_exec_time::numeric, 2) AS max_ms, s.rows, left(regexp_replace(s.query, '\s+', ' ', 'g'), 100) AS query
FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
WHERE d.datname = current_database() AND s.query LIKE '%lookalike%'
ORDER BY s.total_exec_time DESC LIMIT :'k';
\else
\warn 'pg_stat_statements is not installed here; these statements run now'
SELECT a.pid, a.application_name, a.state, round(extract(epoch FROM clock_timestamp() - a.query_start) * 1000) AS ms,
       a.wait_event, left(regexp_replace(a.query, '\s+', ' ', 'g'), 100) AS query
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.state <> 'idle'
ORDER BY a.query_start LIMIT :'k';
\endif
