-- The attribute indexes of images, by name and type; `valid` is false while one is built or after a build that failed.
-- Path and type are read from the definition itself, so there is no second record of them to go wrong.
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
