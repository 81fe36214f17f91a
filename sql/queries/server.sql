-- name: roles_to_grant
-- The group roles that the cluster lacks or that have no rights on the schema, each with the statements that mend it.
SELECT c.role, c.remedy FROM lookalike.roles_check c WHERE NOT (c.present AND c.granted) ORDER BY c.role;

-- name: schema_serves
-- Whether the schema, ahead of code at this revision, goes on serving it: every revision above says that it does.
SELECT coalesce(bool_and(r.serves COLLATE "C" <= :'head'), false)
FROM lookalike.schema_revisions r WHERE r.revision COLLATE "C" > :'head';

-- name: settings_to_change
-- The settings that keep plain SQL from complete answers, each with its value and the one wanted.
SELECT format('%s is %s, not %s', c.setting, coalesce(c.value, 'unset'), c.wanted)
FROM lookalike.settings_check c
WHERE NOT c.ok
ORDER BY c.setting;

-- name: standby_state
-- What a server of searches is: whether it is a standby, of which cluster, how far it has replayed the WAL (bytes since its
-- beginning), whether the primary
-- knows what its queries still need, and the seconds since the last commit that it replayed was made.
SELECT pg_is_in_recovery() AS standby,
       (SELECT c.system_identifier FROM pg_control_system() c) AS system,
       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0')::bigint
           AS position,
       current_setting('hot_standby_feedback')::boolean AS feedback,
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS since_replayed;

-- name: wal_position
-- The end of the WAL of this primary: what was committed before lies below it.
SELECT pg_current_wal_insert_lsn()::text AS lsn;

-- name: wal_replayed
-- Whether this server shows all that lies below a position of the WAL.
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() >= :'lsn'::pg_lsn ELSE true END;
