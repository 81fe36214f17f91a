-- Stores the answer to a caller's request with this key, and removes some that are older than 24 hours.
WITH expired AS (
    SELECT caller, idempotency_key FROM lookalike.api_answers
    WHERE answered_at < clock_timestamp() - interval '24 h' AND (caller, idempotency_key) <> (:'caller', :'key')
    LIMIT 100 FOR UPDATE SKIP LOCKED
), removed AS (
    DELETE FROM lookalike.api_answers a USING expired e
    WHERE a.caller = e.caller AND a.idempotency_key = e.idempotency_key
)
INSERT INTO lookalike.api_answers AS a (caller, idempotency_key, request_sha256, status, headers, body)
VALUES (:'caller', :'key', :'request'::bytea, :'status'::smallint, :'headers'::jsonb, :'body'::bytea)
ON CONFLICT (caller, idempotency_key) DO UPDATE
SET request_sha256 = excluded.request_sha256, status = excluded.status, headers = excluded.headers,
    body = excluded.body, answered_at = excluded.answered_at;
