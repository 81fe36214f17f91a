-- Makes searches in a space deeper where live recall is below its goal: index_options {"search_depth": x} times as deep
-- as they would go, by half as much again a step, up to `most` (index_options {"search_depth_most": y} allows less, or
-- more). It looks at the checks since the last change of the depth and the last build of the index, and wants `fewest` of
-- them. Returns the line that it wrote into lookalike.recall_adjustments; NULL where nothing is to be done, or nothing more
-- may be. It never makes searches shallower: set_search_depth does.
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
