-- Those of these images that need no waiting any more, in the active space: id, and whether the image is searchable. Else
-- it has failed, or was deleted.
SELECT w.id, e.image_id IS NOT NULL AS searchable
FROM unnest(:'ids'::bigint[]) AS w (id)
LEFT JOIN lookalike.images i ON i.id = w.id
LEFT JOIN lookalike.active_embeddings e ON e.image_id = w.id
LEFT JOIN lookalike.embedding_spaces s ON s.active
LEFT JOIN lookalike.failures f ON f.image_id = w.id AND f.space_id = s.id
WHERE e.image_id IS NOT NULL OR f.image_id IS NOT NULL OR i.id IS NULL;
