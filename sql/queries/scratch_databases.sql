-- The scratch databases of this server, of live runs and of dead ones.
SELECT d.datname FROM pg_database d
WHERE d.datname LIKE :'prefix' AND shobj_description(d.oid, 'pg_database') = :'comment'
ORDER BY d.datname;
