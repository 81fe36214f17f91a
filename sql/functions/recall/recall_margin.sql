-- Internal: return half the width of the 95 % confidence interval of a mean recall, or 1 if there are no recalls.
--
-- The arguments are the number of recalls, their mean and the sum of their squares. It is the normal interval of a
-- mean, whose spread has one imagined recall of 0 and one of 1 added: ten recalls of 1 do not prove that the next
-- is one.
CREATE OR REPLACE FUNCTION lookalike.recall_margin(count bigint, mean float8, squares float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN count > 0
            THEN 1.96 * sqrt(greatest(squares - count * mean * mean, 0) + mean * mean + (1 - mean) * (1 - mean)) / count
            ELSE 1 END;
