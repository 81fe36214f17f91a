-- Records with what options the index of a space was built, once it serves.
UPDATE lookalike.embedding_spaces s
SET index_options = s.index_options || :'options'::jsonb
WHERE s.id = :'space_id'::smallint AND NOT s.index_options @> :'options'::jsonb;
