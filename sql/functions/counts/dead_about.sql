-- Internal: estimate how many rows of a relation are dead, beside `live` live ones.
--
-- n_dead_tup alone can count rows twice: ANALYZE sets it, and changes that sessions had not reported yet are added
-- afterwards. So two facts that cannot double bound it: the counters of changes, which ANALYZE never sets, and the
-- space in the pages of the table.
CREATE OR REPLACE FUNCTION lookalike.dead_about(relation text, live bigint)
RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    block bigint := current_setting('block_size');
    dead bigint;
    changes bigint;
    pages bigint;
    width integer;
BEGIN
    -- Counters that began after the table (a crash resets them) bound nothing.
    SELECT pg_stat_get_dead_tuples(c.oid),
           CASE WHEN pg_stat_get_tuples_inserted(c.oid) >= live THEN
               greatest(pg_stat_get_tuples_inserted(c.oid) - live, pg_stat_get_tuples_deleted(c.oid))
               + pg_stat_get_tuples_updated(c.oid)
           END,
           pg_relation_size(c.oid) / block
    INTO dead, changes, pages
    FROM pg_class c WHERE c.relname = relation AND c.relnamespace = 'lookalike'::regnamespace;
    IF coalesce(dead, 0) = 0 THEN
        RETURN 0;
    END IF;
    -- A row takes its aligned width and 4 bytes of line pointer; a page has a header of 24 bytes.
    EXECUTE format('SELECT pg_column_size(r.*) FROM lookalike.%I r LIMIT 1', relation) INTO width;
    RETURN least(dead, changes, greatest(pages * ((block - 24) / ((coalesce(width, 24) + 7) / 8 * 8 + 4)) - live, 0));
END
$$;
