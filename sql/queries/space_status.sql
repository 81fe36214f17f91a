-- The view lookalike.space_status, in the order of records.SpaceStatus.
SELECT id, name, model, dimensions, active, embedded, queued, failed, oldest_job_seconds, live_workers,
       index_name::text, index_valid, bytes, queued_about
FROM lookalike.space_status
ORDER BY active DESC, id;
