-- The ids and distances nearest to a query embedding in one space. See lookalike.nearest_in.
SELECT n.id, n.distance FROM lookalike.nearest_in(:'space', :'query'::halfvec, :'k'::int) n ORDER BY n.distance, n.id;
