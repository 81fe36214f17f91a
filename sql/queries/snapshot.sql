-- This moment's snapshot, as text: which transactions are still running.
SELECT pg_current_snapshot()::text;
