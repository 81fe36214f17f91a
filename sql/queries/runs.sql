-- Runs of the trade-off lab, the latest first, with the number of choices measured: one, those of a space, or all.
SELECT r.id, r.started_at, r.ended_at, r.space, r.fingerprint, r.dimensions, r.rows_total, r.request, r.conditions,
       (SELECT count(*) FROM lookalike.measurements m WHERE m.run_id = r.id) AS choices
FROM lookalike.measurement_runs r
WHERE (:'run_id'::bigint IS NULL OR r.id = :'run_id'::bigint)
  AND (:'fingerprint'::text IS NULL OR r.fingerprint = :'fingerprint'::text)
ORDER BY r.id DESC LIMIT 1000;
