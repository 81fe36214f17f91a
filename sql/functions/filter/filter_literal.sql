-- Internal: return the SQL literal of a value for a column of images of this kind; see filter_column_kind.
--
-- A number that fits is a bigint, so that indexes can be used. Raises 22023 if the value is not of that kind.
CREATE OR REPLACE FUNCTION lookalike.filter_literal(kind text, operator text, operand jsonb, place text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    raw text := operand #>> '{}';
    wanted text := CASE
        WHEN kind = 'number' AND jsonb_typeof(operand) <> 'number' THEN 'a number'
        WHEN kind = 'text' AND jsonb_typeof(operand) <> 'string' THEN 'a string'
        WHEN kind = 'hex' AND (jsonb_typeof(operand) <> 'string' OR raw !~* '^[0-9a-f]{64}$') THEN '64 hex digits'
    END;
BEGIN
    IF wanted IS NOT NULL THEN
        RAISE EXCEPTION '% at % needs % for that column of images, got %',
            operator, left(place, 200), wanted, left(operand::text, 100) USING ERRCODE = '22023';
    END IF;
    IF kind = 'number' THEN
        raw := trim_scale(raw::numeric)::text;
    END IF;
    RETURN CASE kind
        WHEN 'number' THEN quote_literal(raw)
            || CASE WHEN pg_input_is_valid(raw, 'bigint') THEN '::bigint' ELSE '::numeric' END
        WHEN 'text' THEN quote_literal(raw) || '::text'
        WHEN 'time' THEN lookalike.filter_moment(operator, operand, place)
        WHEN 'hex' THEN format('decode(%L, ''hex'')', lower(raw))
    END;
END
$$;
