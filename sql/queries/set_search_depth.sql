-- Sets the search depth of a space. See lookalike.set_search_depth.
SELECT s.name AS space, a.adjusted_at, a.adjusted_by, a.from_depth, a.to_depth, a.reason
FROM lookalike.set_search_depth(:'space_id'::smallint, :'depth'::float8) a
JOIN lookalike.embedding_spaces s ON s.id = a.space_id;
