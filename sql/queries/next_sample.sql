-- The kept search of the active space that waits longest, after the one given.
SELECT s.id FROM lookalike.search_samples s
WHERE s.id > :'after'::bigint AND s.space_id = (SELECT a.id FROM lookalike.active_space() a)
ORDER BY s.id LIMIT 1;
