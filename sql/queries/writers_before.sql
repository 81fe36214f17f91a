-- Whether a transaction that had begun when `snapshot` was taken, and may write, still runs.
SELECT EXISTS (
    SELECT FROM unnest(ARRAY(SELECT pg_snapshot_xip(:'snapshot'::pg_snapshot))) AS x (xid)
    WHERE pg_xact_status(x.xid) = 'in progress'
);
