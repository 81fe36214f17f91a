-- name: facets
-- What can be filtered by: one row per attribute and kind (number, text, boolean, or element of an array), the most
-- common first. Returns the number of images and of distinct values, minimum and maximum of numbers with a histogram of
-- 24 bins, and the most common values. Reads a sample of the table's pages (`percent` of them, at most `most` images),
-- so that the cost is bounded. Names are as in filters; objects are expanded one level deep. The condition of a filter
-- replaces TRUE below.
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
    -- Skip numbers outside the range of a double, because the page cannot show them.
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

-- name: first_embedded
-- The lowest id of an image in the active space, or no row.
SELECT e.image_id FROM lookalike.active_embeddings e ORDER BY e.image_id LIMIT 1;

-- name: image_estimate
-- The planner's estimate of the number of images, accurate enough to size a sample; -1 before the first ANALYZE.
SELECT c.reltuples::bigint FROM pg_class c WHERE c.oid = 'lookalike.images'::regclass;

-- name: latest
-- Up to `most` searchable images, latest first. The condition of a filter replaces TRUE below.
SELECT i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width, i.height, i.caption, i.attributes,
       i.created_at, i.updated_at
FROM lookalike.images i
WHERE (/*filter*/ TRUE) AND EXISTS (SELECT FROM lookalike.active_embeddings e WHERE e.image_id = i.id)
ORDER BY i.id DESC
LIMIT :'most'::bigint;

-- name: search
-- A search by an embedding or by a stored image (the other is NULL), nearest first, with the images' metadata; see
-- lookalike.search for the arguments. `in_space` is the id of the space that the embedding was made in, or NULL; see
-- lookalike.hold_space. A search without results returns one row with only the space and the plan.
SELECT s.name AS space, r.plan, u.distance, i.id, i.uri, encode(i.sha256, 'hex') AS sha256, i.media_type, i.width,
       i.height, i.caption, i.attributes, i.created_at, i.updated_at
FROM lookalike.hold_space(:'in_space'::smallint) s
CROSS JOIN lookalike.search_run(
    coalesce(:'query'::halfvec, lookalike.embedding_of(:'image_id'::bigint)), :'k'::int, :'filter'::jsonb,
    :'max_distance'::float8, array_remove(:'exclude'::bigint[] || :'image_id'::bigint, NULL), coalesce(:'recall'::float8, 0.99),
    :'ef_search'::int, coalesce(:'strategy'::text, 'auto'), :'explain'::boolean) r
LEFT JOIN LATERAL unnest(r.ids, r.distances) AS u (id, distance) ON true
LEFT JOIN lookalike.images i ON i.id = u.id
ORDER BY u.distance, u.id;
