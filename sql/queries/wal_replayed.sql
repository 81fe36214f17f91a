-- Whether this server shows all that lies below a position of the WAL.
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() >= :'lsn'::pg_lsn ELSE true END;
