-- Whether any of these spaces has a job left, due or not, claimed or not.
SELECT EXISTS (SELECT FROM lookalike.jobs j WHERE j.space_id = ANY (:'space_ids'::smallint[]));
