-- Internal: write the answers to query images, an embedding or the reason why there is none, and notify who waits.
--
-- The bytes are dropped. The answer stays for a while, so that the same picture need not be embedded again. A
-- query image whose row another transaction locks is skipped: its claim ends, and it is answered then.
CREATE OR REPLACE FUNCTION lookalike.answer_queries(
    in_space smallint, sha256s bytea[], embeddings halfvec[], reasons text[]
) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
AS $$
    WITH mine AS MATERIALIZED (
        SELECT q.sha256 FROM lookalike.query_images q
        WHERE q.space_id = in_space AND q.sha256 = ANY (sha256s)
        FOR UPDATE SKIP LOCKED
    ), answered AS (
        UPDATE lookalike.query_images q
        SET embedding = lookalike.as_stored(s, n.embedding), reason = n.reason, image = NULL, answered_at = clock_timestamp()
        FROM unnest(sha256s, embeddings, reasons) AS n (sha256, embedding, reason)
        JOIN mine USING (sha256)
        CROSS JOIN (SELECT s FROM lookalike.embedding_spaces s WHERE s.id = in_space) AS space (s)
        WHERE q.sha256 = n.sha256 AND q.space_id = in_space
        RETURNING q.sha256
    )
    SELECT pg_notify('lookalike_answer_' || left(encode(a.sha256, 'hex'), 40), '') FROM answered a;
$$;
