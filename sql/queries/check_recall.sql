-- The tie-aware recall of the ids found by a stored image: those within the k-th true distance + epsilon, of as many as
-- there could be. NULL where the image has no neighbour.
WITH exact AS MATERIALIZED (
    SELECT s.id, s.distance FROM lookalike.similar(:'image_id'::bigint, :'k'::int, strategy => 'exact') s
), reach AS (
    SELECT max(e.distance) + :'epsilon'::float8 AS distance, count(*) AS rows FROM exact e
)
SELECT least(count(f.id), r.rows)::float8 / nullif(r.rows, 0)
FROM reach r
LEFT JOIN unnest(:'found'::bigint[]) AS f (id)
    ON (SELECT a.embedding <-> lookalike.embedding_of(:'image_id'::bigint) FROM lookalike.active_embeddings a
        WHERE a.image_id = f.id) <= r.distance
GROUP BY r.rows;
