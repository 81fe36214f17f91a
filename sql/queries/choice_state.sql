-- What a space is searched by, in the order of choices.State; `choice` is its text form.
SELECT s.name AS space, s.active, :'choice'::text AS choice, t.id AS transform, t.explained_variance, t.sample_size, t.fitted_at,
       x.name AS index, coalesce(x.bytes, 0) AS index_bytes,
       coalesce(pg_table_size(to_regclass('lookalike.candidates_' || t.id))
                + pg_relation_size(to_regclass(format('lookalike.candidates_%s_pkey', t.id))), 0)::bigint AS candidates_bytes
FROM lookalike.embedding_spaces s
LEFT JOIN lookalike.transforms t ON t.id = (s.index_options ->> 'transform')::smallint
LEFT JOIN LATERAL (
    SELECT a.name, a.bytes FROM lookalike.ann_indexes a
    WHERE a.space_id = s.id AND a.serving AND a.valid AND s.index_options ->> 'kind' <> 'exact'
    ORDER BY a.name LIMIT 1
) x ON true
WHERE s.name = :'name';
