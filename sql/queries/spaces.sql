-- The embedding spaces, in the order of records.Space; with a name, that one; with active_only, the active one.
SELECT s.id, s.name, s.model, s.weights, s.preprocessing, s.fingerprint, s.dimensions, s.index_options,
       s.table_name::text, s.active, s.created_at, s.encoded_dimensions
FROM lookalike.embedding_spaces s
WHERE (:'name'::text IS NULL OR s.name = :'name'::text)
  AND (NOT :'active_only'::boolean OR s.active)
ORDER BY s.id;
