-- Claims unanswered query images of a space. See lookalike.claim_queries.
SELECT c.sha256, c.image
FROM lookalike.claim_queries(:'space_id'::smallint, :'most'::int, :'lease_seconds'::float8) c;
