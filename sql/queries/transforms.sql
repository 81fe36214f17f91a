-- The transforms of a space, the oldest first; of a form (0: without) those alone whose candidates have a table.
SELECT t.id
FROM lookalike.transforms t
WHERE t.space_id = :'space_id'::smallint
  AND (:'bits'::int IS NULL OR (coalesce(t.bits, 0) = :'bits'::int AND coalesce(t.dimensions, 0) = :'dimensions'::int
                                AND to_regclass(format('lookalike.candidates_%s', t.id)) IS NOT NULL))
ORDER BY t.id;
