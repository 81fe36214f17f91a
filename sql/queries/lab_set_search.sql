-- Has the built index of a space searched as these options say; the transform below it stays.
UPDATE lookalike.embedding_spaces s
SET index_options = :'options'::jsonb || jsonb_strip_nulls(jsonb_build_object('transform', s.index_options -> 'transform'))
WHERE s.id = :'space_id'::smallint;
