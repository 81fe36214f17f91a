-- Internal: trigger function that keeps updated_at, before a row of images is updated.
--
-- If uri changes, it clears the sha256, media_type, width and height that described the old bytes, unless the
-- writer set them.
CREATE OR REPLACE FUNCTION lookalike.set_image_times() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    IF NEW.uri <> OLD.uri AND NEW.sha256 IS NOT DISTINCT FROM OLD.sha256 THEN
        NEW.sha256 := NULL;
        NEW.media_type := NULL;
        NEW.width := NULL;
        NEW.height := NULL;
    END IF;
    RETURN NEW;
END
$$;
