-- Images that a space has forgotten: neither embedded nor queued nor failed. Empty, at every moment, but for writers whose
-- snapshot is older than the space (REPEATABLE READ), whose images a worker's next look around queues. Reads all of it.
CREATE OR REPLACE VIEW lookalike.space_gaps AS
SELECT s.id AS space_id, s.name AS space, g.image_id
FROM lookalike.embedding_spaces s CROSS JOIN LATERAL lookalike.space_gaps_of(s.id) AS g (image_id);
