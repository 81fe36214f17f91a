-- Internal: return the words of an image for full-text search, on which the index images_document is built.
--
-- The words of the caption have weight A, those of the strings in the attributes, nested ones too, weight B. The
-- configuration is 'simple', because captions come in any language: a word is found as it is written, in any case.
-- It reads 50,000 characters of each, so that no text is too long for a tsvector and no insert fails for it.
CREATE OR REPLACE FUNCTION lookalike.image_document(caption text, attributes jsonb) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN setweight(to_tsvector('simple'::regconfig, coalesce(left(caption, 50000), '')), 'A')
    || setweight(CASE WHEN length(attributes::text) <= 50000
                      THEN jsonb_to_tsvector('simple'::regconfig, attributes, '["string"]')
                      ELSE to_tsvector('simple'::regconfig, left(attributes::text, 50000)) END, 'B');
