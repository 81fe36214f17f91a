-- Internal: return how filters treat a column of images: number, text, time or hex; NULL for other names.
--
-- This fixed list is where the identifiers of a filter come from.
CREATE OR REPLACE FUNCTION lookalike.filter_column_kind(name text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN name IN ('id', 'width', 'height') THEN 'number'
    WHEN name IN ('uri', 'media_type', 'caption') THEN 'text'
    WHEN name IN ('created_at', 'updated_at') THEN 'time'
    WHEN name = 'sha256' THEN 'hex'
END;
