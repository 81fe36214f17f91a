-- Why could images not be embedded? A row a space, step and reason, of each space's latest 10,000 failures, so that it
-- stays cheap. Paths, URLs, numbers and quoted names in a reason count as one. Queued again, once the cause is gone, by
-- lookalike.retry_failures.
CREATE OR REPLACE VIEW lookalike.failure_reasons AS
SELECT s.id AS space_id, s.name AS space, f.step, f.reason, count(*) AS images, max(f.failed_at) AS latest,
       (array_agg(f.uri ORDER BY f.failed_at DESC))[1] AS example
FROM lookalike.embedding_spaces s
CROSS JOIN LATERAL (
    SELECT l.step, l.uri, l.failed_at,
           regexp_replace(l.reason, '''[^'']*''|"[^"]*"|\S*[/\\]\S*|[0-9][0-9,.]*', '…', 'g') AS reason
    FROM lookalike.failures l
    WHERE l.space_id = s.id
    ORDER BY l.failed_at DESC
    LIMIT 10000
) f
GROUP BY s.id, s.name, f.step, f.reason;
