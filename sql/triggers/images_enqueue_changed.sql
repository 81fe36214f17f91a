-- Internal: run lookalike.enqueue_changed after a statement that updates images.
CREATE OR REPLACE TRIGGER images_enqueue_changed AFTER UPDATE ON lookalike.images
REFERENCING OLD TABLE AS before_change NEW TABLE AS after_change
FOR EACH STATEMENT EXECUTE FUNCTION lookalike.enqueue_changed();
