-- Queue failed images again, and return how many.
--
-- Arguments:
--   image_ids  these images; NULL for all
--   of_space   one embedding space; NULL for all
--
-- Example:
--     SELECT lookalike.retry_failures();
CREATE OR REPLACE FUNCTION lookalike.retry_failures(image_ids bigint[] DEFAULT NULL, of_space smallint DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    queued bigint;
BEGIN
    WITH taken AS (
        DELETE FROM lookalike.failures f
        WHERE (image_ids IS NULL OR f.image_id = ANY (image_ids)) AND (of_space IS NULL OR f.space_id = of_space)
        RETURNING f.space_id, f.image_id
    )
    INSERT INTO lookalike.jobs (space_id, image_id)
    SELECT t.space_id, t.image_id FROM taken t
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS queued = ROW_COUNT;
    IF queued > 0 THEN
        PERFORM pg_notify('lookalike_jobs', '');
    END IF;
    RETURN queued;
END
$$;
