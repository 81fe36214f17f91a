-- Index builds on embedding tables that go on now: under the lock that app/index/build.py takes (`lock_class`, the space's id),
-- or by hand (`ours` is false). Who, the phase, whether an index is being created in it, the done share of the phase, 0 to
-- 1, seconds since the statement began, seconds left while the graph is filled, and which session it waits for.
SELECT s.name AS space, b.pid, b.ours, coalesce(nullif(a.application_name, ''), 'a session') AS application, w.phase,
       p.pid IS NOT NULL AS creating, w.done, w.seconds,
       CASE WHEN w.phase = 'building index: loading tuples' AND w.done >= 0.01 THEN w.seconds * (1 - w.done) / w.done END
           AS seconds_left,
       CASE WHEN l.pid IS NOT NULL THEN format('%s (pid %s, in a transaction for %s s)',
           coalesce(nullif(l.application_name, ''), 'a session'), l.pid,
           round(extract(epoch FROM clock_timestamp() - l.xact_start))) END AS waits_for
FROM (
    SELECT u.space_id, u.pid, bool_or(u.ours) AS ours
    FROM (
        SELECT s.id AS space_id, l.pid, true AS ours
        FROM pg_locks l
        JOIN lookalike.embedding_spaces s ON s.id::int::oid = l.objid
        WHERE l.locktype = 'advisory' AND l.classid = :'lock_class'::int::oid AND l.objsubid = 2 AND l.granted
          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        UNION ALL
        SELECT s.id, p.pid, false
        FROM pg_stat_progress_create_index p
        JOIN lookalike.embedding_spaces s ON to_regclass(format('lookalike.%I', s.table_name)) = p.relid
        WHERE p.datname = current_database()
    ) u
    GROUP BY u.space_id, u.pid
) b
JOIN lookalike.embedding_spaces s ON s.id = b.space_id
LEFT JOIN pg_stat_activity a ON a.pid = b.pid
LEFT JOIN pg_stat_progress_create_index p ON p.pid = b.pid
LEFT JOIN pg_stat_activity l ON l.pid = nullif(p.current_locker_pid, 0)
CROSS JOIN LATERAL (
    SELECT coalesce(p.phase, CASE WHEN a.query ILIKE 'DROP INDEX%' THEN 'dropping an index' ELSE 'between two steps' END)
               AS phase,
           coalesce(extract(epoch FROM clock_timestamp() - a.query_start)::float8, 0) AS seconds,
           least(1, CASE WHEN p.phase LIKE 'waiting%' THEN coalesce(p.lockers_done::float8 / nullif(p.lockers_total, 0), 0)
                         ELSE coalesce(p.tuples_done::float8 / nullif(p.tuples_total, 0),
                                       p.blocks_done::float8 / nullif(p.blocks_total, 0), 0) END) AS done
) w
ORDER BY s.id, b.pid;
