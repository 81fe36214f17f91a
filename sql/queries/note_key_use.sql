-- Notes that an API key was used now, at most once a minute.
UPDATE lookalike.api_keys SET last_used_at = clock_timestamp()
WHERE id = :'id'::bigint AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 min');
