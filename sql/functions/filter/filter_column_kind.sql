-- What filters take a column of images for: number, text, time or hex; NULL where the name is no column of theirs.
-- The fixed list from which a filter's identifiers come.
CREATE OR REPLACE FUNCTION lookalike.filter_column_kind(name text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN name IN ('id', 'width', 'height') THEN 'number'
    WHEN name IN ('uri', 'media_type', 'caption') THEN 'text'
    WHEN name IN ('created_at', 'updated_at') THEN 'time'
    WHEN name = 'sha256' THEN 'hex'
END;
