-- Internal: return the embeddings that a space already has of files with these contents, one row per known sha256.
--
-- Files with the same bytes have the same embedding, whatever their uris are. It looks at the first twenty images
-- with the same bytes, so that the cost stays bounded if none of them is embedded.

-- The sha256 of an image and its embedding match only while the image has neither a job nor a failure. Whoever
-- changes what images say about the bytes queues the image in the same transaction, and finish_jobs removes the
-- job in the one that writes both. (The trigger deletes the old embedding too, but a REPEATABLE READ transaction
-- may not see it.) Sequential scans are off, because the planner would read the whole table for a content that it
-- takes to be common.
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
