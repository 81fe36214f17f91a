-- What a search of the active space takes, by those whose recall was checked in the last `days` days.
SELECT count(c.search_seconds) AS searches, avg(c.search_seconds) AS seconds
FROM lookalike.recall_checks c
WHERE c.space_id = (SELECT a.id FROM lookalike.active_space() a) AND c.checked_at > clock_timestamp() - make_interval(days => :'days'::int);
