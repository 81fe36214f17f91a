-- Whether an API key is there that is neither revoked nor expired.
SELECT EXISTS (SELECT FROM lookalike.api_keys WHERE revoked_at IS NULL
               AND (expires_at IS NULL OR expires_at > clock_timestamp()));
