-- Which other sessions hold a lock on images or the active view, longest first: what a switch or a drop waits for.
SELECT format('%s (pid %s, %s, for %s s)', coalesce(nullif(a.application_name, ''), 'a session'), a.pid, a.state,
              round(extract(epoch FROM clock_timestamp() - a.xact_start)))
FROM pg_stat_activity a
WHERE a.pid <> pg_backend_pid() AND a.xact_start < clock_timestamp() - interval '100 ms'
  AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation'
              AND l.relation IN ('lookalike.images'::regclass, 'lookalike.active_embeddings'::regclass))
ORDER BY a.xact_start
LIMIT 5;
