-- Why could images not be embedded, by space, step and reason?
-- Numbers and quoted names in a reason are replaced by …. When the cause is gone, SELECT
-- lookalike.retry_failures(...) queues the images again.
SELECT s.name AS space, f.step, regexp_replace(f.reason, '[0-9]+|''[^'']*''|"[^"]*"', '…', 'g') AS reason,
       count(*) AS images, max(f.failed_at) AS latest, (array_agg(f.uri ORDER BY f.failed_at DESC))[1] AS example
FROM lookalike.failures f JOIN lookalike.embedding_spaces s ON s.id = f.space_id
GROUP BY 1, 2, 3 ORDER BY images DESC, 1, 2, 3;
