-- Goes back to the space that was active before; returns its name. See lookalike.rollback_space.
SELECT lookalike.rollback_space();
