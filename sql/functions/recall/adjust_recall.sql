-- Internal: make the searches of a space deeper if their live recall is below its goal.
--
-- They become half as much deeper again per step, up to `most` times the depth set up; index_options
-- {"search_depth_most": x} sets another limit. Only checks since the last change of the depth and the last build
-- of the index count, and at least `fewest` of them are needed. It returns the row that it wrote into
-- lookalike.recall_adjustments, or NULL if it changed nothing. It never makes searches shallower:
-- lookalike.set_search_depth does. Workers call it.
CREATE OR REPLACE FUNCTION lookalike.adjust_recall(for_space smallint, most float8, fewest int DEFAULT 100)
RETURNS lookalike.recall_adjustments
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT
AS $$
DECLARE
    options jsonb;
    depth float8;
    deeper float8;
    found record;
    told text;
BEGIN
    SELECT s.index_options INTO options FROM lookalike.embedding_spaces s WHERE s.id = for_space FOR NO KEY UPDATE;
    depth := coalesce((options ->> 'search_depth')::float8, 1);
    most := coalesce((options ->> 'search_depth_most')::float8, most);
    deeper := least(depth * 1.5, most);
    IF NOT deeper > depth THEN
        RETURN NULL;
    END IF;
    SELECT count(c.recall) AS searches, avg(c.recall) AS recall,
           lookalike.recall_margin(count(c.recall), avg(c.recall), sum(c.recall * c.recall)) AS margin,
           coalesce((options ->> 'recall_goal')::float8, avg(c.asked)) AS goal
    INTO found
    FROM lookalike.recall_checks c
    WHERE c.space_id = for_space AND c.recall IS NOT NULL AND c.checked_at > clock_timestamp() - interval '7 days'
      AND c.checked_at > coalesce((SELECT max(b.at) FROM lookalike.ann_indexes x
                                   CROSS JOIN LATERAL lookalike.index_built(x.index_oid) b
                                   WHERE x.space_id = for_space AND x.valid), '-infinity')
      AND c.checked_at > coalesce((SELECT max(a.adjusted_at) FROM lookalike.recall_adjustments a
                                   WHERE a.space_id = for_space), '-infinity');
    IF found.searches < fewest OR NOT found.recall + found.margin < found.goal THEN
        RETURN NULL;
    END IF;
    told := format('recall of %s searches is %s ± %s, below %s', found.searches, round(found.recall::numeric, 4),
                   round(found.margin::numeric, 4), round(found.goal::numeric, 4));
    RETURN lookalike.set_search_depth(for_space, deeper, told);
END
$$;
