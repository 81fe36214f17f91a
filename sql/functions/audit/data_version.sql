-- The state of a space's data that this statement sees: the number of changes committed before it, which grows with
-- each and is the same for the same data. By counting, not by the highest number: a transaction that began earlier and
-- commits later is a change, too. NULL for a space that is not audited.
CREATE OR REPLACE FUNCTION lookalike.data_version(space_id smallint) RETURNS bigint
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT CASE WHEN lookalike.audited(data_version.space_id)
                THEN (SELECT count(*) FROM lookalike.data_changes c WHERE c.space_id = data_version.space_id) END
$$;
