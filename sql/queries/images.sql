-- name: add_image
-- Insert an image. The worker fills in properties of its bytes that are NULL. Returns the row with the fields of Image.
INSERT INTO lookalike.images (uri, caption, attributes, sha256, media_type, width, height)
VALUES (:'uri', :'caption', :'attributes'::jsonb, decode(:'sha', 'hex'), :'media_type', :'width'::int, :'height'::int)
RETURNING id, uri, encode(sha256, 'hex') AS sha256, media_type, width, height, caption, attributes, created_at, updated_at;

-- name: add_images
-- Insert images in one statement from parallel arrays. Skips a uri that exists or is repeated. Returns the inserted
-- rows with the fields of Image.
INSERT INTO lookalike.images (uri, caption, attributes)
SELECT g.uri, g.caption, g.attributes
FROM unnest(:'uris'::text[], :'captions'::text[], :'attributes'::jsonb[]) WITH ORDINALITY AS g (uri, caption, attributes, n)
ORDER BY g.n
ON CONFLICT (uri) DO NOTHING
RETURNING id, uri, encode(sha256, 'hex') AS sha256, media_type, width, height, caption, attributes, created_at, updated_at;

-- name: delete_image
-- Delete an image with its embeddings, jobs and failures. Returns the deleted row with the fields of Image, or no row
-- if the id is unknown.
DELETE FROM lookalike.images
WHERE id = :'id'::bigint
RETURNING id, uri, encode(sha256, 'hex') AS sha256, media_type, width, height, caption, attributes, created_at, updated_at;

-- name: delete_images_of_uris
-- Delete the images of these uris with their embeddings, jobs and failures. Returns their ids.
DELETE FROM lookalike.images
WHERE uri = ANY (:'uris'::text[])
RETURNING id;

-- name: lock_upload
-- Lock the uploaded file behind a uri until the transaction ends; wait if another session holds it.
SELECT pg_advisory_xact_lock(hashtextextended('lookalike upload ' || :'uri', 0));

-- name: image_id_of_uri
-- The id of the image with this uri, or no row.
SELECT i.id FROM lookalike.images i WHERE i.uri = :'uri';

-- name: images
-- The images of these ids, with the fields of Image; skips unknown ids.
SELECT i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width, i.height, i.caption, i.attributes,
       i.created_at, i.updated_at
FROM lookalike.images i
WHERE i.id = ANY (:'ids'::bigint[]);

-- name: ingest_images
-- Register a batch of images by uri in one statement, from parallel arrays without repeated uris. NULL values and
-- attributes that are not named keep the existing row's values. Returns the id and outcome of each uri: new, changed
-- (its bytes, caption or attributes differ) or unchanged. Unchanged rows are not written. Triggers queue images that
-- are new or have other bytes.
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

-- name: ingest_settled
-- Those of these images that are settled in the active space: the id, and whether the image is searchable. The others
-- have failed or were deleted.
SELECT w.id, e.image_id IS NOT NULL AS searchable
FROM unnest(:'ids'::bigint[]) AS w (id)
LEFT JOIN lookalike.images i ON i.id = w.id
LEFT JOIN lookalike.active_embeddings e ON e.image_id = w.id
LEFT JOIN lookalike.embedding_spaces s ON s.active
LEFT JOIN lookalike.failures f ON f.image_id = w.id AND f.space_id = s.id
WHERE e.image_id IS NOT NULL OR f.image_id IS NOT NULL OR i.id IS NULL;

-- name: ingest_waiting
-- Progress of these images in the active space: how many are searchable, have failed or were deleted; and whether any
-- worker is alive.
SELECT count(e.image_id) AS searchable,
       count(*) FILTER (WHERE e.image_id IS NULL AND f.image_id IS NOT NULL) AS failed,
       count(*) FILTER (WHERE i.id IS NULL) AS gone,
       EXISTS (SELECT FROM lookalike.worker_status s WHERE s.alive) AS worker_alive
FROM unnest(:'ids'::bigint[]) AS w (id)
LEFT JOIN lookalike.images i ON i.id = w.id
LEFT JOIN lookalike.active_embeddings e ON e.image_id = i.id
LEFT JOIN lookalike.embedding_spaces s ON s.active
LEFT JOIN lookalike.failures f ON f.image_id = i.id AND f.space_id = s.id;

-- name: list_images
-- A page of the images that match a filter, by id, with the fields of Image; see lookalike.list_images.
SELECT i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width, i.height, i.caption, i.attributes,
       i.created_at, i.updated_at
FROM lookalike.list_images(:'filter'::jsonb, :'after_id'::bigint, :'max_rows'::int) l
JOIN lookalike.images i ON i.id = l
ORDER BY i.id;

-- name: lock_image
-- The attributes of one image, locked against other writers until the transaction ends; no row if the id is unknown.
SELECT i.attributes FROM lookalike.images i WHERE i.id = :'id'::bigint FOR NO KEY UPDATE;

-- name: rename_images
-- Change uris, given as pairs: the image at `old` moves to `new` and keeps its id, caption and attributes. Skips a pair
-- if no image has the old uri, or an image has the new one. Returns the ids of the renamed images.
UPDATE lookalike.images i
SET uri = r.new
FROM unnest(:'old'::text[], :'new'::text[]) AS r (old, new)
WHERE i.uri = r.old AND NOT EXISTS (SELECT FROM lookalike.images o WHERE o.uri = r.new)
RETURNING i.id;

-- name: update_image
-- Change an image: `uri` and `attributes` unless they are NULL, `caption` (which may become NULL) if `set_caption`.
-- Returns the row with the fields of Image.
UPDATE lookalike.images
SET uri = coalesce(:'uri'::text, uri),
    caption = CASE WHEN :'set_caption'::boolean THEN :'caption'::text ELSE caption END,
    attributes = coalesce(:'attributes'::jsonb, attributes)
WHERE id = :'id'::bigint
RETURNING id, uri, encode(sha256, 'hex') AS sha256, media_type, width, height, caption, attributes, created_at, updated_at;

-- name: uris_below
-- A page of up to `most` images whose uri starts with a prefix, in order of id, after the id `after`. Returns id and
-- uri.
SELECT i.id, i.uri FROM lookalike.images i
WHERE i.id > :'after'::bigint AND starts_with(i.uri, :'prefix')
ORDER BY i.id
LIMIT :'most'::int;
