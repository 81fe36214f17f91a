-- A search by a stored image as lookalike.similar does it: with defaults, so that the space's index options decide.
SELECT s.id FROM lookalike.similar(:'image_id'::bigint, :'k'::int) s;
