-- Queues what a space lacks among the images that follow an id. See lookalike.enqueue_missing_after.
SELECT m.queued, m.last_id
FROM lookalike.enqueue_missing_after(:'space_id'::smallint, :'after_id'::bigint, :'most'::int) m;
