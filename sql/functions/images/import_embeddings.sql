-- Internal: write images together with their embeddings in one space, which the same model made elsewhere.
--
-- The images get no jobs of that space. The arrays run in parallel and no uri occurs twice; NULL stands for an
-- unknown value or embedding. The caller is responsible for dimension, length and model. `lookalike import` calls
-- it.
--
-- Arguments:
--   ids        ids of new images; NULL for the next ones
--   overwrite  whether to replace captions, attributes and embeddings that exist
--
-- Columns:
--   inserted       number of new images
--   embedded       number of embeddings written
--   unchanged      number of images that had everything already
--   other_content  uris of images with another sha256 here, of which nothing was written
--
-- Raises P0002 if there is no such space, and 23505 if another uri has one of the ids.

-- Images are locked before jobs, as every writer does. Triggers queue the jobs of the other spaces, as always.
CREATE OR REPLACE FUNCTION lookalike.import_embeddings(
    in_space smallint, uris text[], embeddings halfvec[], sha256s bytea[], media_types text[], widths int[],
    heights int[], captions text[], attributes jsonb[], created_ats timestamptz[], updated_ats timestamptz[],
    ids bigint[] DEFAULT NULL, overwrite boolean DEFAULT false,
    OUT inserted bigint, OUT embedded bigint, OUT unchanged bigint, OUT other_content text[]
)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
#variable_conflict use_column
DECLARE
    space_table text;
    new_ids bigint[];
    held bigint[];
    others bigint[];
    changed bigint[];
    written bigint[];
BEGIN
    SELECT s.table_name INTO space_table FROM lookalike.embedding_spaces s WHERE s.id = in_space;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no embedding space % any more', in_space USING ERRCODE = 'P0002';
    END IF;
    WITH made AS (
        INSERT INTO lookalike.images (id, uri, sha256, media_type, width, height, caption, attributes, created_at, updated_at)
        OVERRIDING SYSTEM VALUE
        SELECT coalesce(g.id, nextval(pg_get_serial_sequence('lookalike.images', 'id'))), g.uri, g.sha256, g.media_type,
               g.width, g.height, g.caption, coalesce(g.attributes, '{}'), coalesce(g.created_at, clock_timestamp()),
               coalesce(g.updated_at, g.created_at, clock_timestamp())
        FROM unnest(import_embeddings.uris, import_embeddings.sha256s, import_embeddings.media_types,
                    import_embeddings.widths, import_embeddings.heights, import_embeddings.captions,
                    import_embeddings.attributes, import_embeddings.created_ats, import_embeddings.updated_ats,
                    import_embeddings.ids) WITH ORDINALITY
             AS g (uri, sha256, media_type, width, height, caption, attributes, created_at, updated_at, id, n)
        WHERE NOT EXISTS (SELECT FROM lookalike.images i WHERE i.uri = g.uri)
        ORDER BY g.n
        ON CONFLICT (uri) DO NOTHING
        RETURNING id
    )
    SELECT coalesce(array_agg(m.id), '{}') INTO new_ids FROM made m;
    inserted := cardinality(new_ids);
    IF ids IS NOT NULL AND inserted > 0 THEN
        PERFORM setval(q.name, greatest((SELECT max(n) FROM unnest(new_ids) n), nextval(q.name)))
        FROM pg_get_serial_sequence('lookalike.images', 'id') q (name);
    END IF;
    SELECT array_agg(l.id) INTO held
    FROM (SELECT i.id FROM lookalike.images i WHERE i.uri = ANY (uris) ORDER BY i.id FOR NO KEY UPDATE) l;
    SELECT coalesce(array_agg(i.id), '{}'), coalesce(array_agg(i.uri), '{}') INTO others, other_content
    FROM unnest(import_embeddings.uris, import_embeddings.sha256s) g (uri, sha256)
    JOIN lookalike.images i ON i.uri = g.uri AND i.sha256 <> g.sha256;
    -- What is learnt of bytes says nothing new to who has the image in hand for another space: see finish_jobs.
    PERFORM set_config('lookalike.learning', 'on', true);
    WITH told AS (
        UPDATE lookalike.images i
        SET sha256 = coalesce(i.sha256, g.sha256), media_type = coalesce(i.media_type, g.media_type),
            width = coalesce(i.width, g.width), height = coalesce(i.height, g.height),
            caption = CASE WHEN overwrite THEN coalesce(g.caption, i.caption) ELSE coalesce(i.caption, g.caption) END,
            attributes = CASE WHEN overwrite THEN coalesce(g.attributes, i.attributes) ELSE i.attributes END
        FROM unnest(import_embeddings.uris, import_embeddings.sha256s, import_embeddings.media_types,
                    import_embeddings.widths, import_embeddings.heights, import_embeddings.captions,
                    import_embeddings.attributes)
             AS g (uri, sha256, media_type, width, height, caption, attributes)
        WHERE i.uri = g.uri AND i.id <> ALL (others) AND i.id <> ALL (new_ids)
          AND (i.sha256 IS NULL AND g.sha256 IS NOT NULL OR i.media_type IS NULL AND g.media_type IS NOT NULL
               OR i.width IS NULL AND g.width IS NOT NULL OR i.height IS NULL AND g.height IS NOT NULL
               OR i.caption IS NULL AND g.caption IS NOT NULL
               OR overwrite AND (g.caption <> i.caption OR g.attributes <> i.attributes))
        RETURNING i.id
    )
    SELECT coalesce(array_agg(t.id), '{}') INTO changed FROM told t;
    PERFORM set_config('lookalike.learning', '', true);
    EXECUTE format($query$
        WITH given AS (
            SELECT i.id, g.embedding FROM unnest($1, $2) AS g (uri, embedding) JOIN lookalike.images i ON i.uri = g.uri
            WHERE g.embedding IS NOT NULL AND i.id <> ALL ($3)
        ), put AS (
            INSERT INTO lookalike.%I AS e (image_id, embedding) SELECT g.id, g.embedding FROM given g ORDER BY g.id
            ON CONFLICT (image_id) DO UPDATE SET embedding = excluded.embedding
            WHERE $4 AND e.embedding <> excluded.embedding
            RETURNING image_id
        ), queued AS (
            DELETE FROM lookalike.jobs j USING given g WHERE j.image_id = g.id AND j.space_id = $5
        ), parked AS (
            DELETE FROM lookalike.failures f USING given g WHERE f.image_id = g.id AND f.space_id = $5
        )
        SELECT coalesce(array_agg(p.image_id), '{}') FROM put p
        $query$, space_table) INTO written USING uris, embeddings, others, overwrite, in_space;
    embedded := cardinality(written);
    SELECT count(*) INTO unchanged
    FROM unnest(held) h WHERE h <> ALL (new_ids || changed || written || others);
END
$$;
