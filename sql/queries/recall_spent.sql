-- Seconds that checks of recall took, in the last minute and in the last hour, and what one took on the average.
SELECT coalesce(sum(c.seconds) FILTER (WHERE c.checked_at > clock_timestamp() - interval '1 minute'), 0) AS minute,
       coalesce(sum(c.seconds), 0) AS hour, coalesce(avg(c.seconds), 0) AS one
FROM lookalike.recall_checks c
WHERE c.checked_at > clock_timestamp() - interval '1 hour';
