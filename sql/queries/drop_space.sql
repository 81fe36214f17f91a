-- Drops a space. See lookalike.drop_space.
SELECT lookalike.drop_space(:'name');
