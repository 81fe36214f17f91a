-- Queues images that a space lacks; returns how many. See lookalike.enqueue_missing.
SELECT lookalike.enqueue_missing(:'space_id'::smallint, :'most'::int);
