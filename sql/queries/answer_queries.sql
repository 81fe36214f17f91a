-- Answers query images and tells those who wait. See lookalike.answer_queries.
SELECT lookalike.answer_queries(:'space_id'::smallint, :'hashes'::bytea[], :'embeddings'::halfvec[], :'reasons'::text[]);
