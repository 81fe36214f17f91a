-- name: add_key
-- Insert an API key with its hash. Returns the row with the fields of ApiKey.
INSERT INTO lookalike.api_keys (name, prefix, secret_sha256, scope, expires_at)
VALUES (:'name', :'prefix', :'sha'::bytea, :'scope',
        CASE WHEN :'expires_seconds'::float8 IS NULL THEN NULL
             ELSE clock_timestamp() + make_interval(secs => :'expires_seconds'::float8) END)
RETURNING id, name, prefix, scope, created_at, expires_at, last_used_at, revoked_at,
          coalesce(expires_at <= clock_timestamp(), false) AS expired;

-- name: any_key
-- Return whether there is an API key that is neither revoked nor expired.
SELECT EXISTS (SELECT FROM lookalike.api_keys WHERE revoked_at IS NULL
               AND (expires_at IS NULL OR expires_at > clock_timestamp()));

-- name: find_answer
-- Return the response that a caller's request with this idempotency key got in the last 24 hours.
SELECT request_sha256, status, headers, body FROM lookalike.api_answers
WHERE caller = :'caller' AND idempotency_key = :'key' AND answered_at > clock_timestamp() - interval '24 h';

-- name: hold_answer
-- Lock a caller's idempotency key until the transaction ends; wait if another session holds it.
SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(' ', 'lookalike answer', :'caller'::text, :'key'::text), 0));

-- name: keys
-- All API keys, newest first, with the fields of ApiKey.
SELECT id, name, prefix, scope, created_at, expires_at, last_used_at, revoked_at,
       coalesce(expires_at <= clock_timestamp(), false) AS expired
FROM lookalike.api_keys ORDER BY id DESC;

-- name: keys_by_prefix
-- API keys with this prefix, with the fields of ApiKey and the hashes to compare with.
SELECT secret_sha256, id, name, prefix, scope, created_at, expires_at, last_used_at, revoked_at,
       coalesce(expires_at <= clock_timestamp(), false) AS expired
FROM lookalike.api_keys WHERE prefix = :'prefix' ORDER BY id DESC;

-- name: record_key_use
-- Set an API key's last use to now, at most once a minute.
UPDATE lookalike.api_keys SET last_used_at = clock_timestamp()
WHERE id = :'id'::bigint AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 min');

-- name: readiness
-- Return, for an embedding space, the number of live workers, whether its index is valid (NULL: it has none), and
-- whether it has enough rows to want one.
SELECT lookalike.live_workers(s.id) AS live_workers,
       (SELECT bool_or(i.indisvalid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = format('lookalike.%I', s.table_name)::regclass AND a.amname IN ('hnsw', 'ivfflat')) AS index_valid,
       lookalike.count_up_to(s.table_name, :'enough'::int) >= :'enough'::int AS wants_index
FROM lookalike.embedding_spaces s WHERE s.id = :'space_id'::smallint;

-- name: revoke_key
-- Revoke the API key of this name, or the keys with this prefix. Returns their names.
UPDATE lookalike.api_keys SET revoked_at = clock_timestamp()
WHERE (name = :'name' OR prefix = :'name') AND revoked_at IS NULL
RETURNING name;

-- name: store_answer
-- Store the response to a caller's request with this idempotency key. Delete some responses older than 24 hours.
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
