-- Return the attribute indexes of images, one row per index.
--
-- Columns:
--   name        the attribute as filters name it
--   kind        numeric, text, boolean, timestamp or text[]
--   path        keys from the top of `attributes` down
--   index_name  name of the index
--   valid       false while the index is being built, and after a failed build
--   size_bytes  size of the index
--   scans       how often it was used
--
-- Example:
--     SELECT name, kind, valid, scans FROM lookalike.attribute_indexes();

-- Path and type are read from the definition of the index, so there is no second record of them to disagree.
CREATE OR REPLACE FUNCTION lookalike.attribute_indexes()
RETURNS TABLE (name text, kind text, path text[], index_name text, valid boolean, size_bytes bigint, scans bigint)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT lookalike.attribute_name(p.path), k.kind, p.path, c.relname::text, x.indisvalid,
           pg_relation_size(c.oid), pg_stat_get_numscans(c.oid)
    FROM pg_index x
    JOIN pg_class c ON c.oid = x.indexrelid
    CROSS JOIN LATERAL (
        SELECT array_agg(
            CASE WHEN m[1] LIKE 'E%' THEN replace(replace(m[2], E'\\\\', E'\\'), '''''', '''')
                 ELSE replace(m[2], '''''', '''') END ORDER BY position)
        FROM regexp_matches(pg_get_indexdef(c.oid), '-> (E?)''((?:[^'']|'''')*)''::text', 'g')
             WITH ORDINALITY AS r (m, position)
    ) AS p (path)
    CROSS JOIN LATERAL (
        SELECT t.kind FROM unnest('{numeric,text,boolean,timestamp,text[]}'::text[]) AS t (kind)
        WHERE c.relname = lookalike.attribute_index_name(p.path, t.kind)
    ) AS k
    WHERE x.indrelid = 'lookalike.images'::regclass
    ORDER BY 1, 2;
$$;
