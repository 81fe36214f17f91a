-- Keeps with the index choice of a space what was promised of it.
UPDATE lookalike.embedding_spaces s SET index_options = s.index_options || jsonb_build_object('promise', :'promise'::jsonb)
WHERE s.id = :'space_id'::smallint;
