-- Drops a transform of a space with its candidates: see lookalike.drop_transform.
SELECT lookalike.drop_transform(:'transform'::smallint);
