-- Why images could not be embedded, one row per space, step and reason.
--
-- It reads the latest 10,000 failures of each space, so that it stays cheap. Paths, URLs, numbers and quoted names
-- in a reason are replaced by …. When the cause is gone, lookalike.retry_failures queues the images again.
--
-- Columns:
--   space_id  the embedding space
--   space     its name
--   step      fetch, decode, transform, encode or write
--   reason    the reason, without what differs by image
--   images    number of images
--   latest    time of the latest failure
--   example   uri of the latest image
--
-- Example:
--     SELECT space, step, reason, images, example FROM lookalike.failure_reasons ORDER BY images DESC;
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
