-- Internal: create the table of a transform's candidates, and the triggers that keep it up to date.
--
-- The table, lookalike.candidates_<transform>, is empty; the triggers act from the commit on, for every writer of
-- embeddings. It waits for transactions that write embeddings and they wait for it. So every later writer has the
-- triggers, and whoever fills the table afterwards sees all earlier rows.
CREATE OR REPLACE FUNCTION lookalike.create_candidates(transform smallint) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
    fitted lookalike.transforms;
    space lookalike.embedding_spaces;
    candidates text := 'candidates_' || transform;
BEGIN
    SELECT * INTO STRICT fitted FROM lookalike.transforms t WHERE t.id = transform;
    SELECT * INTO STRICT space FROM lookalike.embedding_spaces s WHERE s.id = fitted.space_id;
    EXECUTE format(
        'CREATE TABLE lookalike.%I (image_id bigint PRIMARY KEY%s%s)', candidates,
        ', bits bit(' || fitted.bits || ') STORAGE PLAIN NOT NULL',
        ', reduced halfvec(' || fitted.dimensions || ') STORAGE PLAIN NOT NULL');
    EXECUTE format('COMMENT ON TABLE lookalike.%I IS %L', candidates,
                   format('What searches of space %s look for candidates in, by transform %s', space.name, transform));
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT ON lookalike.%I REFERENCING NEW TABLE AS written '
                   'FOR EACH STATEMENT EXECUTE FUNCTION lookalike.write_candidates(%L)',
                   candidates || '_inserted', space.table_name, transform);
    EXECUTE format('CREATE TRIGGER %I AFTER UPDATE ON lookalike.%I REFERENCING OLD TABLE AS gone NEW TABLE AS written '
                   'FOR EACH STATEMENT EXECUTE FUNCTION lookalike.write_candidates(%L)',
                   candidates || '_updated', space.table_name, transform);
    EXECUTE format('CREATE TRIGGER %I AFTER DELETE ON lookalike.%I REFERENCING OLD TABLE AS gone '
                   'FOR EACH STATEMENT EXECUTE FUNCTION lookalike.write_candidates(%L)',
                   candidates || '_deleted', space.table_name, transform);
    EXECUTE format('CREATE TRIGGER %I AFTER TRUNCATE ON lookalike.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION lookalike.write_candidates(%L)',
                   candidates || '_emptied', space.table_name, transform);
    PERFORM lookalike.grant_privileges();
END
$$;
