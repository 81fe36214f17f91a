-- Claims unanswered query images of a space, in the order of queries.QueryImage. See lookalike.claim_queries.
SELECT c.sha256, c.image, c.waited
FROM lookalike.claim_queries(:'space_id'::smallint, :'most'::int, :'lease_seconds'::float8) c;
