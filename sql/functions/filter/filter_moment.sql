-- Internal: return the SQL literal of a time in ISO format, the same under every TimeZone and DateStyle.
--
-- `operator` and `place` are for the error message. Raises 22023 if the operand is anything else.
CREATE OR REPLACE FUNCTION lookalike.filter_moment(operator text, operand jsonb, place text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    moment timestamp := lookalike.attribute_timestamp(operand) AT TIME ZONE 'UTC';
BEGIN
    IF moment IS NULL THEN
        RAISE EXCEPTION '% at % needs a date or a time as ISO text, such as 2024-05-31 or 2024-05-31T12:30:00Z, got %',
            operator, left(place, 200), left(operand::text, 100) USING ERRCODE = '22023';
    END IF;
    RETURN quote_literal(to_char(moment, 'YYYY-MM-DD HH24:MI:SS.US+00 AD')) || '::timestamptz';
END
$$;
