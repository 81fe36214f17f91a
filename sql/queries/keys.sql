-- All API keys, the newest first, in the order of records.ApiKey.
SELECT id, name, prefix, scope, created_at, expires_at, last_used_at, revoked_at,
       coalesce(expires_at <= clock_timestamp(), false) AS expired
FROM lookalike.api_keys ORDER BY id DESC;
