-- The transform that searches of the active space use now; no row without one.
SELECT t.id, t.fitted_at FROM lookalike.transforms t
WHERE t.id = (SELECT lookalike.active_transform_id() FROM (SELECT FROM lookalike.active_candidates WHERE false) held
              RIGHT JOIN (VALUES (1)) one ON true);
