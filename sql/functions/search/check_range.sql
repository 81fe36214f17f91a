-- Internal: raise 22023, with the argument and its value, unless low <= value <= high.
CREATE OR REPLACE FUNCTION lookalike.check_range(argument text, value float8, low float8, high float8) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    IF value IS NULL OR value = 'NaN' OR value NOT BETWEEN low AND high THEN
        RAISE EXCEPTION '% is %, but must be % to %', argument, coalesce(value::text, 'NULL'), low, high
            USING ERRCODE = '22023';
    END IF;
END
$$;
