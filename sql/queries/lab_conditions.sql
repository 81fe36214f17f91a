-- What a measurement depends on, as the server tells it.
SELECT version() AS postgresql,
       (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'vector') AS pgvector,
       (SELECT jsonb_object_agg(v.name, current_setting(v.name)) FROM pg_settings v
        WHERE v.name IN ('shared_buffers', 'work_mem', 'maintenance_work_mem', 'effective_cache_size', 'jit', 'fsync',
                         'max_parallel_workers_per_gather', 'max_parallel_maintenance_workers', 'random_page_cost',
                         'synchronous_commit')) AS settings;
