-- Internal: write embeddings and remove their jobs, for those images that the lease `claim` still holds.
--
-- The arrays run in parallel. It skips an image that was deleted or changed since the claim. It also skips one
-- whose row another transaction locks; its job stays and comes again. sha256, media type and size go to images if
-- they were unknown there. If the bytes differ from the recorded ones, the other spaces embed the image again. It
-- returns the ids that were written.

-- Images are locked before jobs, as every writer does (a statement on images, then its triggers), and with SKIP
-- LOCKED: so neither a deadlock nor a long transaction on one image holds up the batch.
CREATE OR REPLACE FUNCTION lookalike.finish_jobs(
    in_space smallint, claim uuid, image_ids bigint[], embeddings halfvec[],
    sha256s bytea[], media_types text[], widths int[], heights int[]
) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    space lookalike.embedding_spaces;
    held bigint[];
    mine bigint[];
BEGIN
    SELECT * INTO STRICT space FROM lookalike.embedding_spaces s WHERE s.id = in_space;
    SELECT array_agg(l.id) INTO held
    FROM (SELECT i.id FROM lookalike.images i WHERE i.id = ANY (image_ids) ORDER BY i.id
          FOR NO KEY UPDATE SKIP LOCKED) l;
    WITH leased AS MATERIALIZED (
        SELECT j.image_id FROM lookalike.jobs j
        WHERE j.image_id = ANY (held) AND j.space_id = in_space AND j.lease = claim
        FOR UPDATE SKIP LOCKED
    ), done AS (
        DELETE FROM lookalike.jobs j USING leased l
        WHERE j.image_id = l.image_id AND j.space_id = in_space
        RETURNING j.image_id
    )
    SELECT array_agg(d.image_id) INTO mine FROM done d;
    IF mine IS NULL THEN
        RETURN;
    END IF;
    -- New bytes under a known sha256 are a change of content: the trigger forgets all embeddings of the image and
    -- queues it everywhere. So this comes first, and this space's own job, just done, is taken out again. A sha256 learnt
    -- here for the first time says nothing new to who has the image in hand for another space.
    PERFORM set_config('lookalike.learning', 'on', true);
    UPDATE lookalike.images i
    SET sha256 = n.sha256, media_type = n.media_type, width = n.width, height = n.height
    FROM unnest(image_ids, sha256s, media_types, widths, heights) AS n (id, sha256, media_type, width, height)
    WHERE i.id = n.id AND i.id = ANY (mine)
      AND (i.sha256, i.media_type, i.width, i.height) IS DISTINCT FROM (n.sha256, n.media_type, n.width, n.height);
    IF FOUND THEN
        DELETE FROM lookalike.jobs j WHERE j.image_id = ANY (mine) AND j.space_id = in_space;
    END IF;
    PERFORM set_config('lookalike.learning', '', true);
    EXECUTE format($query$
        INSERT INTO lookalike.%I (image_id, embedding)
        SELECT n.id, %s FROM unnest($1, $2) AS n (id, embedding) WHERE n.id = ANY ($3)
        ON CONFLICT (image_id) DO UPDATE SET embedding = excluded.embedding
        $query$, space.table_name,
        CASE WHEN space.transform_id IS NULL THEN 'n.embedding' ELSE 'lookalike.as_stored($4, n.embedding)' END)
    USING image_ids, embeddings, mine, space;
    RETURN QUERY SELECT unnest(mine);
END
$$;
