-- Index builds on embedding tables that go on now: space, phase, and the done share of the table in it, 0 to 1.
SELECT s.name AS space, p.phase, coalesce(p.tuples_done::float8 / nullif(p.tuples_total, 0),
                                          p.blocks_done::float8 / nullif(p.blocks_total, 0), 0) AS done
FROM pg_stat_progress_create_index p
JOIN lookalike.embedding_spaces s ON p.relid = format('lookalike.%I', s.table_name)::regclass
ORDER BY s.id;
