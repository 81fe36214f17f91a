-- The view lookalike.storage_parts, in the order of app.monitoring.costs.StoragePart: what all spaces share, then the active one's.
SELECT p.space, p.active, p.part, p.kind, p.bytes, p.bytes_per_image
FROM lookalike.storage_parts p
WHERE p.bytes > 0
ORDER BY p.space_id IS NOT NULL, p.active DESC, p.space_id, p.bytes DESC, p.part;
