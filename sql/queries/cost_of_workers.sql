-- What workers took in the last `days` days, in the order of records of app.monitoring.costs. See lookalike.cost_of_workers.
SELECT c.space, c.device, c.images, c.reused, c.queries, c.seconds, c.seconds_each, c.per_second, c.claim_each,
       c.fetch_each, c.lookup_each, c.decode_each, c.encode_each, c.write_each
FROM lookalike.cost_of_workers((statement_timestamp() AT TIME ZONE 'UTC')::date - :'days'::int) c;
