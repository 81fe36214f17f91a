-- Removes up to `most` jobs of a space that is about to be dropped, and that nobody holds just now; returns how many.
WITH gone AS (
    DELETE FROM lookalike.jobs j
    USING (SELECT k.image_id, k.space_id FROM lookalike.jobs k WHERE k.space_id = :'space_id'::smallint
           LIMIT :'most'::int FOR UPDATE SKIP LOCKED) d
    WHERE j.image_id = d.image_id AND j.space_id = d.space_id
    RETURNING 1
)
SELECT count(*) FROM gone;
