-- How long have images waited to be embedded, by space and age?
-- `waiting` are due, `claimed` are being processed by a worker, `later` were put off after a failure.
SELECT s.name AS space,
       CASE WHEN a.age < interval '1 minute' THEN '1: under a minute' WHEN a.age < interval '10 minutes' THEN '2: under 10 minutes'
            WHEN a.age < interval '1 hour' THEN '3: under an hour' WHEN a.age < interval '1 day' THEN '4: under a day'
            ELSE '5: a day or more' END AS age,
       count(*) AS images, count(*) FILTER (WHERE j.available_at <= now()) AS waiting,
       count(*) FILTER (WHERE j.available_at > now() AND j.lease IS NOT NULL) AS claimed,
       count(*) FILTER (WHERE j.available_at > now() AND j.lease IS NULL) AS later,
       max(j.attempts) AS most_attempts, date_trunc('second', max(a.age)) AS oldest
FROM lookalike.jobs j JOIN lookalike.embedding_spaces s ON s.id = j.space_id, LATERAL (SELECT now() - j.enqueued_at) AS a (age)
GROUP BY 1, 2 ORDER BY 1, 2;
