-- Creates an embedding space; returns its id. See lookalike.create_space.
SELECT lookalike.create_space(:'name', :'model', :'dimensions'::int, :'preprocessing'::jsonb, :'fingerprint',
                              :'weights', :'index_options'::jsonb);
