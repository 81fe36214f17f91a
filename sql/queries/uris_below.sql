-- The images whose uri begins with a prefix, a page at a time, in the order of their ids: those after `after`, up to
-- `most`. Returns id and uri.
SELECT i.id, i.uri FROM lookalike.images i
WHERE i.id > :'after'::bigint AND starts_with(i.uri, :'prefix')
ORDER BY i.id
LIMIT :'most'::int;
