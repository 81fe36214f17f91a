-- Live searches without a filter that are kept to have their recall checked, the latest first.
SELECT s.query FROM lookalike.search_samples s
WHERE s.space_id = :'space_id'::smallint AND s.filter IS NULL ORDER BY s.searched_at DESC LIMIT :'most'::int;
