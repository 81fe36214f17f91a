-- The id of the image with this uri; no row where there is none.
SELECT i.id FROM lookalike.images i WHERE i.uri = :'uri';
