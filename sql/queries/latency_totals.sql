-- Everything that workers have counted so far, in the order of records.LatencyTotal. These sums only grow.
SELECT s.name AS space, l.measure, l.bucket::int AS bucket, sum(l.count)::bigint AS count, sum(l.seconds) AS seconds
FROM lookalike.latencies l JOIN lookalike.embedding_spaces s ON s.id = l.space_id
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;
