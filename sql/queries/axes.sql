-- The axes of a transform, in order.
SELECT a.form, a.axis, a.shift FROM lookalike.transform_axes a
WHERE a.transform_id = :'transform'::smallint ORDER BY a.form, a.n;
