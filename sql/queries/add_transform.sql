-- Stores what a transform is; its axes follow in the same transaction.
INSERT INTO lookalike.transforms (space_id, bits, dimensions, fingerprint, sample_size, seed, explained_variance)
VALUES (:'space_id'::smallint, :'bits'::int, :'dimensions'::int, :'fingerprint', :'sample_size'::int, :'seed'::bigint,
        :'explained_variance'::float8)
RETURNING id;
