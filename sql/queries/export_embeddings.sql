-- A page of lookalike.export_embeddings; attributes as text, which loses no digit of a number.
SELECT e.id, e.uri, e.sha256, e.media_type, e.width, e.height, e.caption, e.attributes::text, e.created_at, e.updated_at,
       e.embedding
FROM lookalike.export_embeddings(:'space_id'::smallint, :'after_id'::bigint, :'most'::int) e;
