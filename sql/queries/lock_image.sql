-- The attributes of one image, locked against other writers until the transaction ends; no row where it is unknown.
SELECT i.attributes FROM lookalike.images i WHERE i.id = :'id'::bigint FOR NO KEY UPDATE;
