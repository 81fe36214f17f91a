-- What a server of searches is: whether it is a standby, of which cluster, how far it has replayed the WAL (bytes since its
-- beginning), whether the primary
-- knows what its queries still need, and the seconds since the last commit that it replayed was made.
SELECT pg_is_in_recovery() AS standby,
       (SELECT c.system_identifier FROM pg_control_system() c) AS system,
       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0')::bigint
           AS position,
       current_setting('hot_standby_feedback')::boolean AS feedback,
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS since_replayed;
