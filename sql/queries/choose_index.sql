-- Has searches of a space use another index: see lookalike.choose_index.
SELECT lookalike.choose_index(:'name', :'options'::jsonb);
