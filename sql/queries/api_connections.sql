-- Connections of all API processes to this database, by state: active, idle, idle in transaction ...; a role sees the
-- state of its own alone, unless it is a member of pg_monitor.
SELECT coalesce(a.state, 'unknown') AS state, count(*) AS connections
FROM pg_catalog.pg_stat_activity a
WHERE a.application_name = 'lookalike api' AND a.datname = current_database()
GROUP BY 1
ORDER BY 1;
