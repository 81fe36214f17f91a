-- Internal: return the class of a filter by the share of the images that pass it; NULL stands for no filter.
CREATE OR REPLACE FUNCTION lookalike.selectivity_class(passing float8) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN passing IS NULL THEN 'no filter'
            WHEN passing < 0.001 THEN 'below 0.1 %'
            WHEN passing < 0.01 THEN '0.1 to 1 %'
            WHEN passing < 0.1 THEN '1 to 10 %'
            WHEN passing < 0.5 THEN '10 to 50 %'
            ELSE 'above 50 %' END;
