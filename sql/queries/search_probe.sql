-- What a search of the active space takes now: `most` unfiltered ones by stored images, chosen by chance.
SELECT count(*) AS searches, avg((p.plan ->> 'ms')::float8) / 1000 AS seconds
FROM (SELECT lookalike.explain_search(e.embedding) AS plan
      FROM (SELECT e.embedding
            FROM (SELECT min(i.id) AS first, max(i.id) AS last FROM lookalike.images i) span
            CROSS JOIN LATERAL (
                SELECT DISTINCT span.first + floor(random() * (span.last - span.first + 1))::bigint AS id
                FROM generate_series(1, 8 * :'most'::int)) drawn
            JOIN lookalike.active_embeddings e ON e.image_id = drawn.id
            LIMIT :'most'::int) e) p;
