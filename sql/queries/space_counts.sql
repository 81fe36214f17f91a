-- Exact counts of one space: images, embedded, queued, failed, and of the failed those that the active space has.
SELECT (SELECT count(*) FROM lookalike.images) AS images,
       lookalike.count_up_to(s.table_name, 9223372036854775807) AS embedded,
       (SELECT count(*) FROM lookalike.jobs j WHERE j.space_id = s.id) AS queued,
       (SELECT count(*) FROM lookalike.failures f WHERE f.space_id = s.id) AS failed,
       lookalike.live_workers(s.id) AS live_workers
FROM lookalike.embedding_spaces s
WHERE s.name = :'name';
