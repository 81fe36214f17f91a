-- State of each embedding space: embeddings, queue, failures, workers and index.
--
-- Counts stop at 100,000, so that the view stays cheap.
--
-- Columns:
--   id                  the embedding space
--   name                its name
--   model               timm model
--   dimensions          of its embeddings
--   active              whether searches use it
--   embedded            number of embeddings, at most 100,000
--   queued              number of jobs, at most 100,000
--   failed              number of failures, at most 100,000
--   oldest_job_seconds  age of the oldest due job
--   live_workers        workers that serve it
--   index_name          name of its ANN index
--   index_valid         whether searches may use the index
--   bytes               size of embeddings and candidates, with their indexes
--   queued_about        number of jobs, estimated beyond 100,000
--
-- Example:
--     SELECT name, active, embedded, queued, failed, live_workers FROM lookalike.space_status;
CREATE OR REPLACE VIEW lookalike.space_status AS
SELECT s.id, s.name, s.model, s.dimensions, s.active,
       lookalike.count_up_to(s.table_name, 100000) AS embedded,
       least(q.about, 100000) AS queued,
       lookalike.count_up_to('failures', 100000, format('space_id = %s', s.id)) AS failed,
       (SELECT extract(epoch FROM clock_timestamp() - j.enqueued_at)::float8
        FROM lookalike.jobs j WHERE j.space_id = s.id ORDER BY j.available_at LIMIT 1) AS oldest_job_seconds,
       lookalike.live_workers(s.id) AS live_workers,
       x.index_name, x.index_valid,
       pg_total_relation_size(format('lookalike.%I', s.table_name)::regclass)
           + coalesce(pg_total_relation_size(c.candidates), 0) AS bytes,
       q.about AS queued_about
FROM lookalike.embedding_spaces s
CROSS JOIN LATERAL (SELECT to_regclass('lookalike.candidates_' || (s.index_options ->> 'transform')) AS candidates) c
CROSS JOIN LATERAL (
    SELECT lookalike.count_about('jobs', 100000, format('space_id = %s', s.id)) AS about OFFSET 0
) q
LEFT JOIN LATERAL (
    SELECT r.relname AS index_name, i.indisvalid AS index_valid
    FROM pg_index i
    JOIN pg_class r ON r.oid = i.indexrelid
    JOIN pg_am a ON a.oid = r.relam
    WHERE i.indrelid = coalesce(c.candidates, format('lookalike.%I', s.table_name)::regclass) AND a.amname IN ('hnsw', 'ivfflat')
    ORDER BY i.indisvalid DESC, r.relname
    LIMIT 1
) x ON true;
