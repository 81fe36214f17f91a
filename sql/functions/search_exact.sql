-- The exact k nearest rows that pass: the filter first, then only their embeddings. Private to lookalike.search_run.
CREATE OR REPLACE FUNCTION lookalike.search_exact(
    query halfvec, k int, condition text, exclude bigint[], OUT ids bigint[], OUT distances float8[]
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off
AS $$
#variable_conflict use_variable
BEGIN
    IF condition IS NULL THEN
        SELECT array_agg(n.image_id ORDER BY n.distance, n.image_id),
               array_agg(n.distance ORDER BY n.distance, n.image_id) INTO ids, distances
        FROM (SELECT e.image_id, (e.embedding <-> query) + 0 AS distance
              FROM lookalike.active_embeddings e
              WHERE e.image_id <> ALL (exclude)
              ORDER BY 2, 1 LIMIT k) n;
    ELSE
        EXECUTE format($sql$
            WITH passing AS MATERIALIZED (
                SELECT i.id FROM lookalike.images i WHERE (%s) AND i.id <> ALL ($3)
            ), nearest AS (
                SELECT e.image_id, (e.embedding <-> $1) + 0 AS distance
                FROM passing p JOIN lookalike.active_embeddings e ON e.image_id = p.id
                ORDER BY 2, 1 LIMIT $2
            )
            SELECT array_agg(n.image_id ORDER BY n.distance, n.image_id),
                   array_agg(n.distance ORDER BY n.distance, n.image_id) FROM nearest n
            $sql$, condition)
        INTO ids, distances USING query, k, exclude;
    END IF;
END
$$;
