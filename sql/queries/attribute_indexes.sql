-- The attribute indexes, in the order of attributes.AttributeIndex; with a name, those of that attribute alone.
SELECT a.name, a.kind, a.index_name, a.valid, a.size_bytes, a.scans
FROM lookalike.attribute_indexes() a
WHERE :'name'::text IS NULL OR a.path = lookalike.attribute_path(:'name'::text)
ORDER BY a.name, a.kind;
