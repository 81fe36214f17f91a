-- What full-text search knows of an image: the words of its caption (weight A) and of the texts among its attributes,
-- also nested ones (weight B). Configuration 'simple': captions come in any language, and a word is found as it is
-- written, whatever its case. Reads 50,000 characters of each, so that no text is too long for a tsvector and no
-- insert fails for it. The index images_document is built on it.
CREATE OR REPLACE FUNCTION lookalike.image_document(caption text, attributes jsonb) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN setweight(to_tsvector('simple'::regconfig, coalesce(left(caption, 50000), '')), 'A')
    || setweight(CASE WHEN length(attributes::text) <= 50000
                      THEN jsonb_to_tsvector('simple'::regconfig, attributes, '["string"]')
                      ELSE to_tsvector('simple'::regconfig, left(attributes::text, 50000)) END, 'B');
