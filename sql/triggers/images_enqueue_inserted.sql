-- After a statement that inserts images: see lookalike.enqueue_inserted.
CREATE OR REPLACE TRIGGER images_enqueue_inserted AFTER INSERT ON lookalike.images
REFERENCING NEW TABLE AS inserted
FOR EACH STATEMENT EXECUTE FUNCTION lookalike.enqueue_inserted();
