-- Records what the index of a space is, once it serves.
UPDATE lookalike.embedding_spaces s
SET index_options = s.index_options || jsonb_build_object('m', :'m'::int, 'ef_construction', :'ef_construction'::int)
WHERE s.id = :'space_id'::smallint
  AND NOT s.index_options @> jsonb_build_object('m', :'m'::int, 'ef_construction', :'ef_construction'::int);
