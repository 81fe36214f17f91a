-- Records that a run has measured all that was asked for.
UPDATE lookalike.measurement_runs r SET ended_at = clock_timestamp() WHERE r.id = :'run_id'::bigint AND r.ended_at IS NULL;
