-- Why could images not be embedded? By space, step and reason; numbers and quoted names in a reason count as one.
-- Queued again by SELECT lookalike.retry_failures(...) when the cause is gone.
SELECT s.name AS space, f.step, regexp_replace(f.reason, '[0-9]+|''[^'']*''|"[^"]*"', '…', 'g') AS reason,
       count(*) AS images, max(f.failed_at) AS latest, (array_agg(f.uri ORDER BY f.failed_at DESC))[1] AS example
FROM lookalike.failures f JOIN lookalike.embedding_spaces s ON s.id = f.space_id
GROUP BY 1, 2, 3 ORDER BY images DESC, 1, 2, 3;
