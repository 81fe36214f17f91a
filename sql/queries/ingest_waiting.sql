-- How far these images are in the active space: how many are searchable, have failed, or are gone; and whether any worker
-- is alive.
SELECT count(e.image_id) AS searchable,
       count(*) FILTER (WHERE e.image_id IS NULL AND f.image_id IS NOT NULL) AS failed,
       count(*) FILTER (WHERE i.id IS NULL) AS gone,
       EXISTS (SELECT FROM lookalike.worker_status s WHERE s.alive) AS worker_alive
FROM unnest(:'ids'::bigint[]) AS w (id)
LEFT JOIN lookalike.images i ON i.id = w.id
LEFT JOIN lookalike.active_embeddings e ON e.image_id = i.id
LEFT JOIN lookalike.embedding_spaces s ON s.active
LEFT JOIN lookalike.failures f ON f.image_id = i.id AND f.space_id = s.id;
