-- lookalike.import_embeddings.
SELECT r.inserted, r.embedded, r.unchanged, r.other_content
FROM lookalike.import_embeddings(
    :'space_id'::smallint, :'uris'::text[], :'embeddings'::halfvec[], :'hashes'::bytea[], :'media_types'::text[],
    :'widths'::int[], :'heights'::int[], :'captions'::text[], :'attributes'::text[]::jsonb[],
    :'created_ats'::timestamptz[], :'updated_ats'::timestamptz[], :'ids'::bigint[], :'overwrite'::boolean) r;
