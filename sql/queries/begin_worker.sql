-- Registers a worker; returns its id. See lookalike.begin_worker.
SELECT lookalike.begin_worker(:'name', :'version', :'device', :'space_ids'::smallint[]);
