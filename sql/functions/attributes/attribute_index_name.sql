-- Internal: return the name of the index of an attribute, the same for the same path and type.
--
-- It has at most 60 bytes: a readable part, and a hash because paths may be long or contain any character.
CREATE OR REPLACE FUNCTION lookalike.attribute_index_name(path text[], kind text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT format(
        'images_attribute_%s_%s_%s',
        left(trim('_' FROM regexp_replace(lower(array_to_string(path, '_')), '[^a-z0-9]+', '_', 'g')), 20),
        left(encode(sha256(convert_to(path::text, 'UTF8')), 'hex'), 12),
        replace(kind, '[]', 's'));
$$;
