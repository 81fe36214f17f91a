-- One row a worker: alive means a heartbeat within ten seconds.
CREATE OR REPLACE VIEW lookalike.worker_status AS
SELECT w.id, w.name, w.version, w.device, w.state,
       ARRAY(SELECT s.name FROM lookalike.embedding_spaces s WHERE s.id = ANY (w.space_ids) ORDER BY s.id) AS spaces,
       w.heartbeat_at > clock_timestamp() - interval '10 s' AS alive,
       w.started_at, w.heartbeat_at, w.images_embedded, w.images_failed, w.queries_answered, w.last_error
FROM lookalike.workers w;
