-- What there is to filter by: one row an attribute and kind (number, text, boolean, element: of an array), the most
-- common first: in how many images, how many values, the smallest and largest number with a histogram of 24 bins between
-- them, the most common values. Read from a sample of the table's pages, `percent` of them and `most` images at most, so
-- that the cost has a bound. Names are as filters write them; objects are opened one level deep. The condition of a
-- filter takes the place of TRUE below.
WITH sampled AS MATERIALIZED (
    SELECT i.attributes
    FROM lookalike.images i TABLESAMPLE SYSTEM (:'percent'::float4) REPEATABLE (0)
    WHERE /*filter*/ TRUE
    LIMIT :'most'::bigint
), steps AS (
    SELECT CASE WHEN a.key LIKE '$%' OR lookalike.filter_column_kind(a.key) IS NOT NULL THEN 'attributes.' ELSE '' END
           || regexp_replace(a.key, '([.\\])', '\\\1', 'g') AS name, a.value
    FROM sampled s, jsonb_each(s.attributes) a
), scalars AS (
    SELECT s.name, jsonb_typeof(s.value) AS kind, s.value FROM steps s
    UNION ALL
    SELECT s.name || '.' || regexp_replace(o.key, '([.\\])', '\\\1', 'g'), jsonb_typeof(o.value), o.value
    FROM steps s, jsonb_each(CASE WHEN jsonb_typeof(s.value) = 'object' THEN s.value ELSE '{}' END) o
    UNION ALL
    SELECT s.name, 'element', e.value
    FROM steps s, jsonb_array_elements(CASE WHEN jsonb_typeof(s.value) = 'array' THEN s.value ELSE '[]' END) e
    WHERE jsonb_typeof(e.value) IN ('string', 'number', 'boolean')
), found AS MATERIALIZED (
    -- What no double holds is left out: a page could not show it.
    SELECT s.name, CASE s.kind WHEN 'string' THEN 'text' ELSE s.kind END AS kind, s.value, n.number
    FROM scalars s
    LEFT JOIN LATERAL (
        SELECT CASE WHEN x = 0 OR abs(x) BETWEEN 1e-300 AND 1e300 THEN x::float8 END AS number
        FROM lookalike.attribute_numeric(s.value) x
        WHERE s.kind = 'number'
    ) n ON true
    WHERE s.kind IN ('string', 'number', 'boolean', 'element') AND length(s.value::text) <= 200 AND length(s.name) <= 200
      AND (:'names'::text[] IS NULL OR s.name = ANY (:'names'::text[])) AND (s.kind <> 'number' OR n.number IS NOT NULL)
), facets AS MATERIALIZED (
    SELECT name, kind, count(*) AS images, count(DISTINCT value) AS distinct_values, min(number) AS minimum,
           max(number) AS maximum
    FROM found
    GROUP BY name, kind
    ORDER BY count(*) DESC, name, kind
    LIMIT 40
)
SELECT (SELECT count(*) FROM sampled) AS sampled, f.name, f.kind, f.images, f.distinct_values, f.minimum, f.maximum,
       v.common, h.histogram
FROM (SELECT 1) always
LEFT JOIN facets f ON true
LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object('value', c.value, 'images', c.images) ORDER BY c.images DESC, c.value) AS common
    FROM (
        SELECT x.value, count(*) AS images
        FROM found x WHERE x.name = f.name AND x.kind = f.kind AND f.kind <> 'number'
        GROUP BY x.value
        ORDER BY count(*) DESC, x.value
        LIMIT 30
    ) c
) v ON true
LEFT JOIN LATERAL (
    SELECT array_agg(coalesce(b.images, 0) ORDER BY n) AS histogram
    FROM generate_series(1, 24) n
    LEFT JOIN (
        SELECT least(width_bucket(x.number, f.minimum, f.maximum, 24), 24) AS bin, count(*) AS images
        FROM found x WHERE x.name = f.name AND x.kind = 'number'
        GROUP BY 1
    ) b ON b.bin = n
    WHERE f.kind = 'number' AND f.minimum < f.maximum AND f.maximum - f.minimum < 1e300
) h ON true
ORDER BY f.images DESC NULLS LAST, f.name, f.kind;
