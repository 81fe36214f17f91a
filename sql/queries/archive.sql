-- name: count_all_images
-- Exact number of images.
SELECT count(*) FROM lookalike.images;

-- name: export_embeddings
-- A page of lookalike.export_embeddings. Attributes come as text, because a JSON parser could lose digits of a number.
SELECT e.id, e.uri, e.sha256, e.media_type, e.width, e.height, e.caption, e.attributes::text, e.created_at, e.updated_at,
       e.embedding
FROM lookalike.export_embeddings(:'space_id'::smallint, :'after_id'::bigint, :'most'::int) e;

-- name: import_embeddings
-- Call lookalike.import_embeddings.
SELECT r.inserted, r.embedded, r.unchanged, r.other_content
FROM lookalike.import_embeddings(
    :'space_id'::smallint, :'uris'::text[], :'embeddings'::halfvec[], :'hashes'::bytea[], :'media_types'::text[],
    :'widths'::int[], :'heights'::int[], :'captions'::text[], :'attributes'::text[]::jsonb[],
    :'created_ats'::timestamptz[], :'updated_ats'::timestamptz[], :'ids'::bigint[], :'overwrite'::boolean) r;
