-- The view lookalike.worker_status, in the order of records.WorkerStatus; live workers first.
SELECT id, name, version, device, state, spaces, alive, started_at, heartbeat_at, images_embedded, images_failed,
       queries_answered, last_error
FROM lookalike.worker_status
ORDER BY alive DESC, id;
