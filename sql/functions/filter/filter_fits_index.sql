-- Internal: return whether a comparison with this scalar gives the same on the expression of an attribute index.
--
-- Those expressions stop at 500 characters of text and 1,000 of a number.
CREATE OR REPLACE FUNCTION lookalike.filter_fits_index(operand jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(operand)
    WHEN 'string' THEN length(operand #>> '{}') < 500
    WHEN 'number' THEN octet_length(operand::text) < 1000
    ELSE true
END;
