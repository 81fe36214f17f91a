-- Images that a space has lost: neither embedded nor queued nor failed.
--
-- It is always empty, except for writers whose snapshot is older than the space (REPEATABLE READ); workers look
-- for such images and queue them. It reads all images.
--
-- Columns:
--   space_id  the embedding space
--   space     its name
--   image_id  the image
--
-- Example:
--     SELECT space, count(*) FROM lookalike.space_gaps GROUP BY space;
CREATE OR REPLACE VIEW lookalike.space_gaps AS
SELECT s.id AS space_id, s.name AS space, g.image_id
FROM lookalike.embedding_spaces s CROSS JOIN LATERAL lookalike.space_gaps_of(s.id) AS g (image_id);
