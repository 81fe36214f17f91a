-- Workers, one row per worker.
--
-- Columns:
--   id                the worker
--   name              host:pid
--   version           of Lookalike
--   device            cpu or a GPU
--   state             what it does
--   spaces            names of the spaces that it serves
--   alive             whether it sent a heartbeat in the last ten seconds
--   started_at        time of its start
--   heartbeat_at      time of its last heartbeat
--   images_embedded   number of images embedded
--   images_failed     number of images that failed
--   queries_answered  number of query images answered
--   last_error        its last error
--
-- Example:
--     SELECT name, state, spaces, alive, images_embedded FROM lookalike.worker_status;
CREATE OR REPLACE VIEW lookalike.worker_status AS
SELECT w.id, w.name, w.version, w.device, w.state,
       ARRAY(SELECT s.name FROM lookalike.embedding_spaces s WHERE s.id = ANY (w.space_ids) ORDER BY s.id) AS spaces,
       w.heartbeat_at > clock_timestamp() - interval '10 s' AS alive,
       w.started_at, w.heartbeat_at, w.images_embedded, w.images_failed, w.queries_answered, w.last_error
FROM lookalike.workers w;
