-- Images that could not be embedded, the latest first, in the order of records.Failure; of one space, or of all.
SELECT f.image_id, s.name AS space, f.uri, f.step, f.reason, f.attempts::int, f.failed_at
FROM lookalike.failures f
JOIN lookalike.embedding_spaces s ON s.id = f.space_id
WHERE :'space_id'::smallint IS NULL OR f.space_id = :'space_id'::smallint
ORDER BY f.failed_at DESC, f.image_id
LIMIT :'most'::bigint;
