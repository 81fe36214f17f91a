-- Records a run of the trade-off lab; returns its number.
INSERT INTO lookalike.measurement_runs (space, fingerprint, dimensions, rows_total, request, conditions)
VALUES (:'space', :'fingerprint', :'dimensions'::int, :'rows_total'::bigint, :'request'::jsonb, :'conditions'::jsonb)
RETURNING id;
