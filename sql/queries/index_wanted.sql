-- Whether a space's indexes want work that nobody is at: it lacks a valid ANN index though it holds at least `min_rows`
-- embeddings and its index choice asks for one (candidates have theirs from the first); or a build that was cut off left something to finish or to drop.
SELECT (s.index_options ->> 'kind' <> 'exact'
        AND lookalike.count_up_to(s.table_name, :'min_rows'::bigint) >= :'min_rows'::bigint
        AND NOT EXISTS (SELECT FROM lookalike.ann_indexes x WHERE x.space_id = s.id AND x.valid AND x.serving))
    OR EXISTS (SELECT FROM lookalike.ann_indexes x
               WHERE x.space_id = s.id AND x.serving AND NOT x.building AND (NOT x.valid OR x.name ~ '_(hnsw|ivfflat)_new$'))
FROM lookalike.embedding_spaces s
WHERE s.id = :'space_id'::smallint;
