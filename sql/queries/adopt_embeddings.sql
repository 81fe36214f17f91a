-- Writes reduced embeddings of another space: see lookalike.adopt_embeddings.
SELECT lookalike.adopt_embeddings(:'space_id'::smallint, :'source_id'::smallint, :'ids'::bigint[], :'embeddings'::halfvec[]);
