-- Embed a picture in the active space: queue it for the workers, commit, and wait for the answer.
--
-- It cannot run inside a transaction block, because it commits.
--
-- Arguments:
--   image      bytes of an image file
--   embedding  the answer; leave it out
--   timeout    seconds to wait
--
-- Raises LK001 at once if no worker is alive, LK002 if the time is up, and 22023 with the worker's reason if the
-- bytes are not a picture.
--
-- Example:
--     \set picture `base64 < photo.jpg`
--     CALL lookalike.embed_image(decode(:'picture', 'base64')) \gset
--     SELECT * FROM lookalike.search(:'embedding', 10);

-- It has no SET of its own, because a procedure with one may not commit.
CREATE OR REPLACE PROCEDURE lookalike.embed_image(
    image bytea, INOUT embedding halfvec DEFAULT NULL, timeout float8 DEFAULT 10
)
LANGUAGE plpgsql
AS $$
DECLARE
    space lookalike.embedding_spaces;
    digest bytea;
    reason text;
    asked boolean := false;
    patience float8 := 0.002;
    began timestamptz := clock_timestamp();
    looked timestamptz;
BEGIN
    space := lookalike.active_space();
    IF image IS NULL OR length(image) = 0 THEN
        RAISE EXCEPTION 'the image is %: there is nothing to embed', CASE WHEN image IS NULL THEN 'NULL' ELSE 'empty' END
            USING ERRCODE = '22023';
    END IF;
    PERFORM lookalike.check_range('timeout', timeout, 0, 3600);
    digest := sha256(image);
    embedding := NULL;
    LOOP
        IF NOT asked THEN
            embedding := lookalike.ask_embedding(space.id, image);
            looked := NULL;
        END IF;
        IF embedding IS NULL AND (looked IS NULL OR clock_timestamp() > looked + interval '1 s') THEN
            looked := clock_timestamp();
            IF lookalike.live_workers(space.id) = 0 THEN
                RAISE EXCEPTION 'no worker is alive for embedding space %, so a query image cannot be embedded', space.name
                    USING ERRCODE = 'LK001', HINT = 'Start one with "lookalike worker".';
            END IF;
        END IF;
        COMMIT;  -- the question, once; afterwards the snapshot, which would hold vacuum back
        EXIT WHEN embedding IS NOT NULL;
        IF reason IS NOT NULL THEN
            RAISE EXCEPTION 'the picture cannot be embedded: %', reason USING ERRCODE = '22023';
        ELSIF clock_timestamp() > began + make_interval(secs => timeout) THEN
            RAISE EXCEPTION 'the workers of embedding space % did not embed the picture within % s', space.name, timeout
                USING ERRCODE = 'LK002', HINT = 'They are overloaded: try again, or start more workers.';
        END IF;
        PERFORM pg_sleep(patience);
        patience := least(patience * 1.5, 0.05);
        SELECT a.embedding, a.reason INTO embedding, reason FROM lookalike.answer_of(space.id, digest) a;
        asked := FOUND;  -- a crash of the server empties the unlogged table; then the question is asked again
    END LOOP;
END
$$;
