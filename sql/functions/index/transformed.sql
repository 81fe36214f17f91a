-- An embedding along the axes of a transform (`form`: bits or reduced): the inner product with each axis less its shift,
-- which is that of the mean of the sample that the transform was fitted on. 512 axes of 1280 dimensions: 0.3 ms.
-- A body that is parsed once, so that the operator is pgvector's whatever the caller's search_path.
CREATE OR REPLACE FUNCTION lookalike.transformed(transform smallint, form text, embedding halfvec) RETURNS vector
LANGUAGE sql STABLE PARALLEL SAFE STRICT
RETURN ARRAY(
    SELECT -(a.axis <#> transformed.embedding) - a.shift
    FROM lookalike.transform_axes a
    WHERE a.transform_id = transformed.transform AND a.form = transformed.form
    ORDER BY a.n
)::float8[]::vector;
