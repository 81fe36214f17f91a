-- Internal: return ivfflat.probes for a recall and a number of lists.
--
-- The numbers come from measurements, which the project's decisions describe. A space's index_options {"probes":
-- n} replace them. lookalike.search_run and search_candidates call it.
CREATE OR REPLACE FUNCTION lookalike.search_probes(lists int, recall float8) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN least(lists, ceil(sqrt(lists) * CASE WHEN recall > 0.99 THEN 5 WHEN recall > 0.95 THEN 2.5
                                            WHEN recall > 0.90 THEN 1.3 ELSE 0.8 END)::int);
