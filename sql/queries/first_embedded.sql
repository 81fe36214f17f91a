-- The image of the lowest id that is embedded in the active space; no row where there is none.
SELECT e.image_id FROM lookalike.active_embeddings e ORDER BY e.image_id LIMIT 1;
