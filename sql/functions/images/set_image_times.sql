-- Trigger function, before an update of a row of images: keeps updated_at, and forgets what described the old bytes
-- (sha256, media_type, width, height) when uri names another image and the writer said nothing new about it.
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
