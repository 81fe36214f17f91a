-- Internal: return the SQL condition of one positive operator on a column of images.
--
-- The operand has been checked. The condition is TRUE if the operator holds, else FALSE or NULL.
CREATE OR REPLACE FUNCTION lookalike.filter_column(name text, operator text, operand jsonb, place text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    kind text := lookalike.filter_column_kind(name);
    known text[] := '{$eq,$ne,$in,$nin,$exists}'::text[]
        || CASE WHEN kind <> 'hex' THEN '{$lt,$lte,$gt,$gte}'::text[] END
        || CASE WHEN kind = 'text' THEN '{$contains,$startswith}'::text[] END;
    signs jsonb := '{"$eq": "=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">=", "$startswith": "^@"}';
    condition text;
BEGIN
    IF operator <> ALL (known) THEN
        RAISE EXCEPTION '% at % is not for this column of images, which is of kind %; it takes %',
            operator, left(place, 200), kind, array_to_string(known, ', ') USING ERRCODE = '22023';
    ELSIF operator = '$exists' THEN
        RETURN format('i.%I IS %s', name, CASE WHEN operand::boolean THEN 'NOT NULL' ELSE 'NULL' END);
    ELSIF operator = '$eq' AND operand = 'null' THEN
        RETURN format('i.%I IS NULL', name);
    ELSIF operator = '$in' THEN
        SELECT coalesce(format('i.%I = ANY (ARRAY[', name) || string_agg(l.literal, ', ') || '])', 'FALSE')
        INTO condition
        FROM jsonb_path_query(operand, '$[*] ? (@ != null)') AS e (element),
             lookalike.filter_literal(kind, operator, e.element, place) AS l (literal)
        -- These columns are integers: no other number equals one, and one numeric would keep the index from being used.
        WHERE kind <> 'number' OR l.literal LIKE '%::bigint';
        IF operand @> '[null]' THEN
            condition := format('(%s OR i.%I IS NULL)', condition, name);
        END IF;
        RETURN condition;
    ELSIF operator = '$contains' THEN
        SELECT coalesce('(' || string_agg(format('strpos(i.%I, %s) > 0', name, l.literal), ' AND ') || ')',
                        format('i.%I IS NOT NULL', name))
        INTO condition
        FROM jsonb_array_elements(CASE jsonb_typeof(operand) WHEN 'array' THEN operand
                                  ELSE jsonb_build_array(operand) END) AS e (element),
             lookalike.filter_literal(kind, operator, e.element, place) AS l (literal);
        RETURN condition;
    END IF;
    RETURN format('i.%I%s %s %s', name,
                  CASE WHEN kind = 'text' AND operator <> '$eq' THEN ' COLLATE "C"' ELSE '' END,
                  signs ->> operator, lookalike.filter_literal(kind, operator, operand, place));
END
$$;
