-- Makes the table of a transform's candidates with its triggers: see lookalike.create_candidates.
SELECT lookalike.create_candidates(:'transform'::smallint);
