-- Deletes the images of these uris, and with them their embeddings, jobs and failures. Returns their ids.
DELETE FROM lookalike.images
WHERE uri = ANY (:'uris'::text[])
RETURNING id;
