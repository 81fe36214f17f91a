-- Internal: run lookalike.enqueue_inserted after a statement that inserts images.
CREATE OR REPLACE TRIGGER images_enqueue_inserted AFTER INSERT ON lookalike.images
REFERENCING NEW TABLE AS inserted
FOR EACH STATEMENT EXECUTE FUNCTION lookalike.enqueue_inserted();
