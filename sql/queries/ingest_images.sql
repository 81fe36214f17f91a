-- Registers a batch of images by uri, in one statement; the arrays run in parallel, no uri twice. What is NULL, and an
-- attribute that is not named, stays as it is in a row already there. Returns for each uri its id and what became of it:
-- new; changed (other bytes, caption or attributes than before); unchanged. An unchanged row is not written at all.
-- Triggers queue what is new or has other bytes.
WITH given AS MATERIALIZED (
    SELECT g.*
    FROM unnest(:'uris'::text[], :'hashes'::bytea[], :'media_types'::text[], :'widths'::int[], :'heights'::int[],
                :'captions'::text[], :'attributes'::jsonb[])
         AS g (uri, sha256, media_type, width, height, caption, attributes)
), known AS MATERIALIZED (
    SELECT i.uri, i.id,
           g.sha256 IS NOT NULL AND i.sha256 IS NULL AS learnt,
           coalesce(g.sha256 <> i.sha256, false)
               OR g.caption IS NOT NULL AND g.caption IS DISTINCT FROM i.caption
               OR i.attributes || g.attributes <> i.attributes AS changed
    FROM given g
    JOIN lookalike.images i ON i.uri = g.uri
), written AS (
    INSERT INTO lookalike.images AS i (uri, sha256, media_type, width, height, caption, attributes)
    SELECT g.uri, g.sha256, g.media_type, g.width, g.height, g.caption, g.attributes
    FROM given g
    LEFT JOIN known k ON k.uri = g.uri
    WHERE k.id IS NULL OR k.changed OR k.learnt
    ORDER BY g.uri
    ON CONFLICT (uri) DO UPDATE
    SET sha256 = coalesce(excluded.sha256, i.sha256),
        media_type = coalesce(excluded.media_type, i.media_type),
        width = coalesce(excluded.width, i.width),
        height = coalesce(excluded.height, i.height),
        caption = coalesce(excluded.caption, i.caption),
        attributes = i.attributes || excluded.attributes
    RETURNING i.uri, i.id, i.xmax = 0 AS new
)
SELECT coalesce(w.id, k.id) AS id,
       CASE WHEN w.new THEN 'new' WHEN w.id IS NULL OR NOT coalesce(k.changed, true) THEN 'unchanged' ELSE 'changed' END
           AS outcome
FROM given g
LEFT JOIN known k ON k.uri = g.uri
LEFT JOIN written w ON w.uri = g.uri;
