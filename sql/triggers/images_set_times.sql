-- Before an update of images, a row at a time; an update that changes nothing writes no new updated_at.
CREATE OR REPLACE TRIGGER images_set_times BEFORE UPDATE ON lookalike.images
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
EXECUTE FUNCTION lookalike.set_image_times();
