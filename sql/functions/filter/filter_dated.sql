-- Internal: return whether an operand is text that begins like an ISO date, and so is compared as a time.
CREATE OR REPLACE FUNCTION lookalike.filter_dated(operand jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_typeof(operand) = 'string' AND operand #>> '{}' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:|$)';
