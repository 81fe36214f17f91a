-- Gives images other uris, in pairs: those at `old` are henceforth at `new`, with their ids, captions and attributes.
-- Passed over: a pair whose old uri no image has, and one whose new uri is taken. Returns the ids of the renamed.
UPDATE lookalike.images i
SET uri = r.new
FROM unnest(:'old'::text[], :'new'::text[]) AS r (old, new)
WHERE i.uri = r.old AND NOT EXISTS (SELECT FROM lookalike.images o WHERE o.uri = r.new)
RETURNING i.id;
