-- The active space's id and name, held until the transaction ends. See lookalike.hold_space.
SELECT s.id, s.name, s.fingerprint
FROM lookalike.hold_space(:'in_space'::smallint) s;
