-- Stores an API key by its hash. Returns the row, in the order of records.ApiKey.
INSERT INTO lookalike.api_keys (name, prefix, secret_sha256, scope, expires_at)
VALUES (:'name', :'prefix', :'sha'::bytea, :'scope',
        CASE WHEN :'expires_seconds'::float8 IS NULL THEN NULL
             ELSE clock_timestamp() + make_interval(secs => :'expires_seconds'::float8) END)
RETURNING id, name, prefix, scope, created_at, expires_at, last_used_at, revoked_at,
          coalesce(expires_at <= clock_timestamp(), false) AS expired;
