-- Removes a worker that ends in an orderly way.
DELETE FROM lookalike.workers w WHERE w.id = :'worker_id'::bigint;
