-- The number of images, counted one by one.
SELECT count(*) FROM lookalike.images;
