-- Writes the answers to query images, an embedding or the reason why there is none, and notifies who waits for each.
-- The bytes are dropped; the answer stays for a while, so that the same picture need not be embedded again.
CREATE OR REPLACE FUNCTION lookalike.answer_queries(
    in_space smallint, sha256s bytea[], embeddings halfvec[], reasons text[]
) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH answered AS (
        UPDATE lookalike.query_images q
        SET embedding = n.embedding, reason = n.reason, image = NULL, answered_at = clock_timestamp()
        FROM unnest(sha256s, embeddings, reasons) AS n (sha256, embedding, reason)
        WHERE q.sha256 = n.sha256 AND q.space_id = in_space
        RETURNING q.sha256
    )
    SELECT pg_notify('lookalike_answer_' || left(encode(a.sha256, 'hex'), 40), '') FROM answered a;
$$;
