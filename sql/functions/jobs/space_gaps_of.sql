-- Internal: return the images that have neither an embedding nor a job nor a failure in a space.
--
-- See the view lookalike.space_gaps.
CREATE OR REPLACE FUNCTION lookalike.space_gaps_of(of_space smallint) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN QUERY EXECUTE format($query$
        SELECT i.id FROM lookalike.images i
        WHERE NOT EXISTS (SELECT FROM lookalike.%I e WHERE e.image_id = i.id)
          AND NOT EXISTS (SELECT FROM lookalike.jobs j WHERE j.image_id = i.id AND j.space_id = $1)
          AND NOT EXISTS (SELECT FROM lookalike.failures f WHERE f.image_id = i.id AND f.space_id = $1)
        $query$, (SELECT s.table_name FROM lookalike.embedding_spaces s WHERE s.id = of_space)) USING of_space;
END
$$;
