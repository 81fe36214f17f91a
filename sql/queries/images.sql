-- name: add_image
-- Inserts an image; what describes its bytes may be NULL, and is then filled in by the worker. Returns the row, in the
-- order of records.Image.
INSERT INTO lookalike.images (uri, caption, attributes, sha256, media_type, width, height)
VALUES (:'uri', :'caption', :'attributes'::jsonb, decode(:'sha', 'hex'), :'media_type', :'width'::int, :'height'::int)
RETURNING id, uri, encode(sha256, 'hex') AS sha256, media_type, width, height, caption, attributes, created_at, updated_at;

-- name: add_images
-- Inserts images, in one statement; the arrays run in parallel. A uri that is there already, or comes twice, is passed
-- over. Returns the rows that were made, in the order of records.Image.
INSERT INTO lookalike.images (uri, caption, attributes)
SELECT g.uri, g.caption, g.attributes
FROM unnest(:'uris'::text[], :'captions'::text[], :'attributes'::jsonb[]) WITH ORDINALITY AS g (uri, caption, attributes, n)
ORDER BY g.n
ON CONFLICT (uri) DO NOTHING
RETURNING id, uri, encode(sha256, 'hex') AS sha256, media_type, width, height, caption, attributes, created_at, updated_at;

-- name: delete_image
-- Deletes an image, and with it its embeddings, jobs and failures. Returns the row that was, in the order of
-- records.Image; no row where it is unknown.
DELETE FROM lookalike.images
WHERE id = :'id'::bigint
RETURNING id, uri, encode(sha256, 'hex') AS sha256, media_type, width, height, caption, attributes, created_at, updated_at;

-- name: delete_images_of_uris
-- Deletes the images of these uris, and with them their embeddings, jobs and failures. Returns their ids.
DELETE FROM lookalike.images
WHERE uri = ANY (:'uris'::text[])
RETURNING id;

-- name: lock_upload
-- Waits for, and holds until the transaction ends, the right to store or remove the uploaded file behind a uri.
SELECT pg_advisory_xact_lock(hashtextextended('lookalike upload ' || :'uri', 0));

-- name: image_id_of_uri
-- The id of the image with this uri; no row where there is none.
SELECT i.id FROM lookalike.images i WHERE i.uri = :'uri';

-- name: images
-- The images of these ids, in the order of records.Image; ids without an image are passed over.
SELECT i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width, i.height, i.caption, i.attributes,
       i.created_at, i.updated_at
FROM lookalike.images i
WHERE i.id = ANY (:'ids'::bigint[]);

-- name: ingest_images
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

-- name: ingest_settled
-- Those of these images that need no waiting any more, in the active space: id, and whether the image is searchable. Else
-- it has failed, or was deleted.
SELECT w.id, e.image_id IS NOT NULL AS searchable
FROM unnest(:'ids'::bigint[]) AS w (id)
LEFT JOIN lookalike.images i ON i.id = w.id
LEFT JOIN lookalike.active_embeddings e ON e.image_id = w.id
LEFT JOIN lookalike.embedding_spaces s ON s.active
LEFT JOIN lookalike.failures f ON f.image_id = w.id AND f.space_id = s.id
WHERE e.image_id IS NOT NULL OR f.image_id IS NOT NULL OR i.id IS NULL;

-- name: ingest_waiting
-- How far these images are in the active space: how many are searchable, have failed, or are gone; and whether any worker
-- is alive.
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
-- A page of the images that pass a filter, by id; see lookalike.list_images. In the order of records.Image.
SELECT i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width, i.height, i.caption, i.attributes,
       i.created_at, i.updated_at
FROM lookalike.list_images(:'filter'::jsonb, :'after_id'::bigint, :'max_rows'::int) l
JOIN lookalike.images i ON i.id = l
ORDER BY i.id;

-- name: lock_image
-- The attributes of one image, locked against other writers until the transaction ends; no row where it is unknown.
SELECT i.attributes FROM lookalike.images i WHERE i.id = :'id'::bigint FOR NO KEY UPDATE;

-- name: rename_images
-- Gives images other uris, in pairs: those at `old` are henceforth at `new`, with their ids, captions and attributes.
-- Passed over: a pair whose old uri no image has, and one whose new uri is taken. Returns the ids of the renamed.
UPDATE lookalike.images i
SET uri = r.new
FROM unnest(:'old'::text[], :'new'::text[]) AS r (old, new)
WHERE i.uri = r.old AND NOT EXISTS (SELECT FROM lookalike.images o WHERE o.uri = r.new)
RETURNING i.id;

-- name: update_image
-- Changes an image: `uri` and `attributes` unless NULL, `caption` (which may become NULL) if `set_caption`. Returns the
-- row, in the order of records.Image.
UPDATE lookalike.images
SET uri = coalesce(:'uri'::text, uri),
    caption = CASE WHEN :'set_caption'::boolean THEN :'caption'::text ELSE caption END,
    attributes = coalesce(:'attributes'::jsonb, attributes)
WHERE id = :'id'::bigint
RETURNING id, uri, encode(sha256, 'hex') AS sha256, media_type, width, height, caption, attributes, created_at, updated_at;

-- name: uris_below
-- The images whose uri begins with a prefix, a page at a time, in the order of their ids: those after `after`, up to
-- `most`. Returns id and uri.
SELECT i.id, i.uri FROM lookalike.images i
WHERE i.id > :'after'::bigint AND starts_with(i.uri, :'prefix')
ORDER BY i.id
LIMIT :'most'::int;
