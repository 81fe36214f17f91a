-- Queue those of the next `most` images that have neither an embedding nor a job nor a failure in a space.
--
-- Call it with the last id until that is NULL: it visits all images once, in transactions that stay short. An
-- image whose row another transaction locks is skipped. If that transaction rolls back, the image stays unqueued,
-- so visit that part again.
--
-- Arguments:
--   for_space  the embedding space
--   after_id   the last id of the call before; 0 for the first
--   most       how many images to visit
--
-- Columns:
--   queued       number of images queued
--   passed_over  number of images skipped
--   last_id      last id visited; NULL at the end
--
-- Raises P0002 if there is no such space.
--
-- Example:
--     SELECT b.* FROM lookalike.active_space() s, lookalike.backfill_space(s.id) b;
CREATE OR REPLACE FUNCTION lookalike.backfill_space(
    for_space smallint, after_id bigint DEFAULT 0, most int DEFAULT 20000,
    OUT queued bigint, OUT passed_over bigint, OUT last_id bigint
)
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    space_table text;
    ids bigint[];
BEGIN
    SELECT s.table_name INTO space_table FROM lookalike.embedding_spaces s WHERE s.id = for_space;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no embedding space % any more', for_space USING ERRCODE = 'P0002';
    END IF;
    SELECT array_agg(n.id), max(n.id) INTO ids, last_id
    FROM (SELECT i.id FROM lookalike.images i WHERE i.id > after_id ORDER BY i.id LIMIT most) n;
    EXECUTE format($query$
        WITH missing AS MATERIALIZED (
            SELECT i.id FROM lookalike.images i
            WHERE i.id = ANY ($2)
              AND NOT EXISTS (SELECT FROM lookalike.%I e WHERE e.image_id = i.id)
              AND NOT EXISTS (SELECT FROM lookalike.jobs j WHERE j.image_id = i.id AND j.space_id = $1)
              AND NOT EXISTS (SELECT FROM lookalike.failures f WHERE f.image_id = i.id AND f.space_id = $1)
        ), held AS MATERIALIZED (
            SELECT i.id FROM lookalike.images i JOIN missing USING (id) FOR KEY SHARE OF i SKIP LOCKED
        ), put AS (
            INSERT INTO lookalike.jobs (space_id, image_id) SELECT $1, h.id FROM held h
            ON CONFLICT DO NOTHING
            RETURNING image_id
        )
        SELECT (SELECT count(*) FROM put), (SELECT count(*) FROM missing) - (SELECT count(*) FROM held)
        $query$, space_table) INTO queued, passed_over USING for_space, ids;
    IF queued > 0 THEN
        PERFORM pg_notify('lookalike_jobs', '');
    END IF;
END
$$;
