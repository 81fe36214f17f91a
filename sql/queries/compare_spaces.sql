-- Two spaces compared on a sample of images. See lookalike.compare_spaces.
SELECT c.image_id, c.overlap, c.first_distance, c.second_distance, c.first_precision, c.second_precision,
       c.first_ids, c.second_ids
FROM lookalike.compare_spaces(:'first', :'second', :'k'::int, :'sample'::int, :'label', :'seed') c;
