-- The embeddings that a space has already of files with these contents: a row for each of `sha256s` that is known. Two files
-- with the same bytes have the same embedding, whatever their uris.
--
-- An image's sha256 and its embedding belong together only while no job and no failure of the image is there: whoever
-- changes what images say of its bytes queues it in the same transaction, and finish_jobs takes the job away in the one
-- that writes both. (The trigger deletes the old embedding too, but a REPEATABLE READ transaction may not see it.) Of many
-- images with the same bytes the first twenty are looked at, so that this takes no longer where none of them is embedded;
-- nor is a table read through where the planner takes a content to be common.
CREATE OR REPLACE FUNCTION lookalike.known_embeddings(in_space smallint, sha256s bytea[])
RETURNS TABLE (sha256 bytea, embedding halfvec)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET enable_seqscan = off
AS $$
DECLARE
    space_table text;
BEGIN
    SELECT s.table_name INTO STRICT space_table FROM lookalike.embedding_spaces s WHERE s.id = in_space;
    RETURN QUERY EXECUTE format($query$
        SELECT w.sha256, k.embedding::halfvec
        FROM (SELECT DISTINCT u.sha256 FROM unnest($1) AS u (sha256)) w
        CROSS JOIN LATERAL (
            SELECT e.embedding
            FROM (SELECT i.id FROM lookalike.images i WHERE i.sha256 = w.sha256 LIMIT 20) t
            JOIN lookalike.%I e ON e.image_id = t.id
            WHERE NOT EXISTS (SELECT FROM lookalike.jobs j WHERE j.image_id = t.id AND j.space_id = $2)
              AND NOT EXISTS (SELECT FROM lookalike.failures f WHERE f.image_id = t.id AND f.space_id = $2)
            LIMIT 1
        ) k
        $query$, space_table) USING sha256s, in_space;
END
$$;
