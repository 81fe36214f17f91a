-- Queues what a space lacks among the next images by id; how many, and where it ended. See lookalike.backfill_space.
SELECT b.queued, b.passed_over, b.last_id FROM lookalike.backfill_space(:'space_id'::smallint, :'after_id'::bigint, :'most'::int) b;
