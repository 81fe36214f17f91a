-- Queue a query image for the workers, and return its embedding if it is known already, else NULL.
--
-- Identical bytes are embedded once, whoever asks. An embedding is known from an earlier query or from an image
-- with the same bytes. If it returns NULL, commit: a worker then answers on channel lookalike_answer_<first 40 hex
-- digits of the sha256>, and lookalike.answer_of returns the answer. lookalike.embed_image does all of this.
--
-- Arguments:
--   for_space  the embedding space
--   image      bytes of an image file
--
-- Example:
--     SELECT lookalike.ask_embedding(s.id, '...'::bytea) FROM lookalike.active_space() s;

-- A second query for the same bytes locks nothing, so that an open transaction delays no answer to others.
CREATE OR REPLACE FUNCTION lookalike.ask_embedding(for_space smallint, image bytea) RETURNS halfvec
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    known halfvec;
    digest bytea := sha256(image);
BEGIN
    SELECT q.embedding INTO known
    FROM lookalike.query_images q WHERE q.sha256 = digest AND q.space_id = for_space;
    IF known IS NULL THEN
        SELECT k.embedding INTO known FROM lookalike.known_embeddings(for_space, ARRAY[digest]) k;
    END IF;
    IF known IS NOT NULL THEN
        RETURN known;
    END IF;
    INSERT INTO lookalike.query_images AS q (space_id, sha256, image)
    VALUES (for_space, digest, image)
    ON CONFLICT (sha256, space_id) DO NOTHING;
    IF NOT FOUND THEN
        UPDATE lookalike.query_images q
        SET asked_at = clock_timestamp(), available_at = clock_timestamp(),
            image = coalesce(q.image, ask_embedding.image), reason = NULL, answered_at = NULL
        WHERE q.sha256 = digest AND q.space_id = for_space AND q.embedding IS NULL
          AND (q.answered_at IS NOT NULL OR q.asked_at < clock_timestamp() - interval '10 s');
    END IF;
    SELECT q.embedding INTO known
    FROM lookalike.query_images q WHERE q.sha256 = digest AND q.space_id = for_space;
    IF known IS NULL THEN
        PERFORM pg_notify('lookalike_queries', '');
    END IF;
    RETURN known;
END
$$;
