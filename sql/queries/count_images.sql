-- The number of images, up to 100,000.
SELECT lookalike.count_up_to('images', 100000);
