-- Queue these images to be embedded again, and return the number of jobs.
--
-- The jobs are due at once and without a lease; failures of the images are cleared. Ids without an image are
-- skipped.
--
-- Arguments:
--   image_ids  the images
--   for_space  one embedding space; NULL for all
--
-- Example:
--     SELECT lookalike.enqueue('{42,43}');
CREATE OR REPLACE FUNCTION lookalike.enqueue(image_ids bigint[], for_space smallint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    queued bigint;
BEGIN
    DELETE FROM lookalike.failures f
    WHERE f.image_id = ANY (image_ids) AND (for_space IS NULL OR f.space_id = for_space);
    INSERT INTO lookalike.jobs AS j (space_id, image_id)
    SELECT s.id, i.id FROM lookalike.embedding_spaces s CROSS JOIN lookalike.images i
    WHERE i.id = ANY (image_ids) AND (for_space IS NULL OR s.id = for_space)
    ORDER BY s.id, i.id
    ON CONFLICT (image_id, space_id) DO UPDATE
    SET lease = NULL, available_at = clock_timestamp(), enqueued_at = clock_timestamp(), attempts = 0;
    GET DIAGNOSTICS queued = ROW_COUNT;
    IF queued > 0 THEN
        PERFORM pg_notify('lookalike_jobs', '');
    END IF;
    RETURN queued;
END
$$;
