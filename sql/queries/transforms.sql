-- The transforms of a space's candidates, the oldest first; of a form (0: without) those alone whose candidates have a table.
SELECT t.id
FROM lookalike.transforms t JOIN lookalike.embedding_spaces s ON s.id = t.space_id AND t.id IS DISTINCT FROM s.transform_id
WHERE t.space_id = :'space_id'::smallint
  AND (:'bits'::int IS NULL OR (coalesce(t.bits, 0) = :'bits'::int AND coalesce(t.dimensions, 0) = :'dimensions'::int
                                AND to_regclass(format('lookalike.candidates_%s', t.id)) IS NOT NULL))
ORDER BY t.id;
