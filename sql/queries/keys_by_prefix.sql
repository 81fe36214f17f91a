-- The API keys that begin like this, with the hashes to compare with.
SELECT secret_sha256, id, name, prefix, scope, created_at, expires_at, last_used_at, revoked_at,
       coalesce(expires_at <= clock_timestamp(), false) AS expired
FROM lookalike.api_keys WHERE prefix = :'prefix' ORDER BY id DESC;
