-- Stores one axis of a transform.
INSERT INTO lookalike.transform_axes (transform_id, form, n, shift, axis)
VALUES (:'transform'::smallint, :'form', :'n'::smallint, :'shift'::float8, :'axis'::halfvec);
