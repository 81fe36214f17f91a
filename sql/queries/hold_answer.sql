-- Waits for, and holds until the transaction ends, the right to handle the request of a caller with this key.
SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(' ', 'lookalike answer', :'caller'::text, :'key'::text), 0));
