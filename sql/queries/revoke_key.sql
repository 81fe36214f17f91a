-- Revokes the API key of a name, or all that begin with a prefix as it is listed. Returns their names.
UPDATE lookalike.api_keys SET revoked_at = clock_timestamp()
WHERE (name = :'name' OR prefix = :'name') AND revoked_at IS NULL
RETURNING name;
