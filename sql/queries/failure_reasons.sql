-- The view lookalike.failure_reasons, in the order of records.FailureReason; the most frequent first.
SELECT space, step, reason, images, latest, example
FROM lookalike.failure_reasons
ORDER BY images DESC, space, step, reason;
