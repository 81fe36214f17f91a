-- Notes which spaces a worker serves now.
UPDATE lookalike.workers SET space_ids = :'space_ids'::smallint[] WHERE id = :'worker_id'::bigint;
