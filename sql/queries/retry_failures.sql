-- Puts failures back into the queue, of all images and spaces or of those named; returns how many. See
-- lookalike.retry_failures.
SELECT lookalike.retry_failures(:'image_ids'::bigint[], :'space_id'::smallint);
