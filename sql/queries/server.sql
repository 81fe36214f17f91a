-- name: roles_to_grant
-- Group roles that the cluster lacks or that have no rights on the schema, each with the statements that fix it.
SELECT c.role, c.remedy FROM lookalike.roles_check c WHERE NOT (c.present AND c.granted) ORDER BY c.role;

-- name: schema_serves
-- Return whether the schema serves code at revision `head` although it is ahead: every later revision must say so.
SELECT coalesce(bool_and(r.serves COLLATE "C" <= :'head'), false)
FROM lookalike.schema_revisions r WHERE r.revision COLLATE "C" > :'head';

-- name: settings_to_change
-- Settings that can make plain SQL return incomplete results, each with its value and the required value.
SELECT format('%s is %s, not %s', c.setting, coalesce(c.value, 'unset'), c.wanted)
FROM lookalike.settings_check c
WHERE NOT c.ok
ORDER BY c.setting;

-- name: standby_state
-- State of a server that may serve searches: whether it is a standby, its cluster's identifier, its WAL position in
-- bytes (replayed, or the end on a primary), hot_standby_feedback, and the age of its last replayed commit in seconds.
SELECT pg_is_in_recovery() AS standby,
       (SELECT c.system_identifier FROM pg_control_system() c) AS system,
       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0')::bigint
           AS position,
       current_setting('hot_standby_feedback')::boolean AS feedback,
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS since_replayed;

-- name: wal_position
-- The end of this primary's WAL; everything committed is below it.
SELECT pg_current_wal_insert_lsn()::text AS lsn;

-- name: wal_replayed
-- Return whether this server has replayed the WAL up to a position.
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() >= :'lsn'::pg_lsn ELSE true END;
