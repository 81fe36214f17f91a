-- A worker's heartbeat; false where its row is gone. See lookalike.beat_worker.
SELECT lookalike.beat_worker(:'worker_id'::bigint, :'state', :'embedded'::bigint, :'failed'::bigint,
                             :'answered'::bigint, :'error');
