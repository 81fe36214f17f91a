-- Internal: return the name of a path, the inverse of lookalike.attribute_path: {size,w} is size.w.
--
-- A key that is also the name of a column gets the prefix `attributes.`.
CREATE OR REPLACE FUNCTION lookalike.attribute_name(path text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
               WHEN path[1] = 'attributes' OR left(path[1], 1) = '$' THEN 'attributes.'
               WHEN cardinality(path) = 1 AND lookalike.filter_column_kind(path[1]) IS NOT NULL THEN 'attributes.'
               ELSE ''
           END
           || string_agg(replace(replace(s.step, E'\\', E'\\\\'), '.', E'\\.'), '.' ORDER BY s.position)
    FROM unnest(path) WITH ORDINALITY AS s (step, position);
$$;
