-- Makes searches deeper where recall is below its goal; no row where nothing is to be done. See lookalike.adjust_recall.
SELECT s.name AS space, a.adjusted_at, a.adjusted_by, a.from_depth, a.to_depth, a.reason
FROM lookalike.adjust_recall(:'space_id'::smallint, :'most'::float8) a
JOIN lookalike.embedding_spaces s ON s.id = a.space_id;
