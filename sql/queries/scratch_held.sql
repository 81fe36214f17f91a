-- Whether a live session of this server, in whichever database, holds the advisory lock of a scratch database.
SELECT EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = :'lock_class'::bigint::oid AND l.objid = :'key'::bigint::oid
      AND l.objsubid = 2
);
