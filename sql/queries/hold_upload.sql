-- Waits for, and holds until the transaction ends, the right to store or remove the uploaded file behind a uri.
SELECT pg_advisory_xact_lock(hashtextextended('lookalike upload ' || :'uri', 0));
