-- Changes of the search depth, in the order of records.RecallAdjustment; the latest first.
SELECT s.name AS space, a.adjusted_at, a.adjusted_by, a.from_depth, a.to_depth, a.reason
FROM lookalike.recall_adjustments a JOIN lookalike.embedding_spaces s ON s.id = a.space_id
ORDER BY a.id DESC LIMIT :'most'::int;
