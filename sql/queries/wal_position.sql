-- The end of the WAL of this primary: what was committed before lies below it.
SELECT pg_current_wal_insert_lsn()::text AS lsn;
