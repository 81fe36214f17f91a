-- Internal: write the reduced form of another space's embeddings, and remove the jobs of these images.
--
-- The arrays run in parallel. It skips images that changed since they were read there, that wait to be embedded,
-- or whose row another transaction locks. It returns the number written.
CREATE OR REPLACE FUNCTION lookalike.adopt_embeddings(
    in_space smallint, from_space smallint, image_ids bigint[], embeddings halfvec[]
) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    space_table text;
    source_table text;
    held bigint[];
    written bigint;
BEGIN
    SELECT s.table_name INTO STRICT space_table FROM lookalike.embedding_spaces s WHERE s.id = in_space;
    SELECT s.table_name INTO STRICT source_table FROM lookalike.embedding_spaces s WHERE s.id = from_space;
    -- As finish_jobs: images before jobs, and nobody waits.
    SELECT array_agg(l.id) INTO held
    FROM (SELECT i.id FROM lookalike.images i WHERE i.id = ANY (image_ids) ORDER BY i.id
          FOR NO KEY UPDATE SKIP LOCKED) l;
    EXECUTE format($query$
        WITH put AS (
            INSERT INTO lookalike.%I (image_id, embedding)
            SELECT g.id, g.embedding
            FROM unnest($1, $2) AS g (id, embedding) JOIN lookalike.%I e ON e.image_id = g.id
            WHERE g.id = ANY ($3)
              AND NOT EXISTS (SELECT FROM lookalike.jobs j WHERE j.image_id = g.id AND j.space_id = $4)
              AND NOT EXISTS (SELECT FROM lookalike.failures f WHERE f.image_id = g.id AND f.space_id = $4)
            ON CONFLICT (image_id) DO NOTHING
            RETURNING image_id
        ), done AS (
            DELETE FROM lookalike.jobs j USING put p WHERE j.image_id = p.image_id AND j.space_id = $5
        )
        SELECT count(*) FROM put
        $query$, space_table, source_table) INTO written USING image_ids, embeddings, held, from_space, in_space;
    RETURN written;
END
$$;
