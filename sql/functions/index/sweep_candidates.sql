-- Internal: remove candidates whose embedding no longer exists, and return how many.
--
-- A session that fills the table may have read an embedding that was deleted before its candidate was written. Run
-- it in READ COMMITTED: it locks each candidate and checks it again, so that one whose embedding is being
-- rewritten stays, or the writer's trigger writes it again.
CREATE OR REPLACE FUNCTION lookalike.sweep_candidates(transform smallint) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    candidates text := 'candidates_' || transform;
    embeddings text;
    image bigint;
    here boolean;
    swept bigint := 0;
BEGIN
    SELECT s.table_name INTO STRICT embeddings
    FROM lookalike.transforms t JOIN lookalike.embedding_spaces s ON s.id = t.space_id WHERE t.id = transform;
    FOR image IN EXECUTE format(
        'SELECT c.image_id FROM lookalike.%I c '
        'WHERE NOT EXISTS (SELECT FROM lookalike.%I e WHERE e.image_id = c.image_id)', candidates, embeddings)
    LOOP
        EXECUTE format('SELECT FROM lookalike.%I c WHERE c.image_id = $1 FOR UPDATE', candidates) USING image;
        EXECUTE format('SELECT EXISTS (SELECT FROM lookalike.%I e WHERE e.image_id = $1)', embeddings)
        INTO here USING image;
        IF NOT here THEN
            EXECUTE format('DELETE FROM lookalike.%I c WHERE c.image_id = $1', candidates) USING image;
            swept := swept + 1;
        END IF;
    END LOOP;
    RETURN swept;
END
$$;
