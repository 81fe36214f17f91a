-- How a transform was fitted, in the order of transforms.Transform.
SELECT t.sample_size, t.seed, t.explained_variance FROM lookalike.transforms t WHERE t.id = :'transform'::smallint;
