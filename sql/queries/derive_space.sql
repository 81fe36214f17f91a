-- Makes a space of another one's reduced form: see lookalike.derive_space.
SELECT lookalike.derive_space(:'name', :'source', :'transform'::smallint, :'index_options'::jsonb);
