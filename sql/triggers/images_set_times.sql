-- Internal: run lookalike.set_image_times before each row of images is updated.
--
-- An update that changes nothing writes no new updated_at.
CREATE OR REPLACE TRIGGER images_set_times BEFORE UPDATE ON lookalike.images
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
EXECUTE FUNCTION lookalike.set_image_times();
