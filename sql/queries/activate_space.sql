-- Makes a space the active one. See lookalike.activate_space.
SELECT lookalike.activate_space(:'name', :'force'::boolean);
