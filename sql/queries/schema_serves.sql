-- Whether the schema, ahead of code at this revision, goes on serving it: every revision above says that it does.
SELECT coalesce(bool_and(r.serves COLLATE "C" <= :'head'), false)
FROM lookalike.schema_revisions r WHERE r.revision COLLATE "C" > :'head';
