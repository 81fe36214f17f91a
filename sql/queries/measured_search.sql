-- A search as it is measured: lookalike.search with its defaults, so that the space's index options decide.
SELECT s.id FROM lookalike.search(:'query'::halfvec, :'k'::int) s;
