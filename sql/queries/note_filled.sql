-- Notes that every embedding has its candidate from now on.
UPDATE lookalike.transforms t SET filled_at = clock_timestamp()
WHERE t.id = :'transform'::smallint AND t.filled_at IS NULL;
