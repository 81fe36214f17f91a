-- The answer that a caller's request with this key had in the last 24 hours.
SELECT request_sha256, status, headers, body FROM lookalike.api_answers
WHERE caller = :'caller' AND idempotency_key = :'key' AND answered_at > clock_timestamp() - interval '24 h';
