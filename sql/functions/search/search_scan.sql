-- Internal: return the k nearest rows that pass a filter by one iterative index scan.
--
-- lookalike.search_run calls it. It follows the scan for as long as it promises to be cheaper than the exact way.
--
-- Arguments:
--   bounded   whether to give up when the exact way promises to be faster
--   index_ms  milliseconds in which the planner expects an index to find the rows that pass, unless `no_index`
--   fitted    transform of the candidates that are indexed, if any
--   depth     how many candidates that pass are ranked by their embeddings; NULL if embeddings are indexed
--   probes    lists of an IVFFlat index to read at a time
--
-- Columns:
--   ids        NULL if the scan was given up or ended before k rows passed: the exact way must answer
--   distances  of those rows
--   report     what the scan did, for the plan

-- The scan returns rows roughly nearest first (relaxed order), so the first k that pass are not yet the nearest k.
-- It goes on by a fifth of the way it took; by 1/sqrt(k) of it, because the depth of a k-th row is known no better
-- than that; and by a hundred rows, because a short way proves little about how well its graph is connected. If
-- fewer than a third of the k lay in the first half of the way, the filter is anti-correlated with the query's
-- neighbourhood and the scan walks towards rows that its graph hardly connects: then it goes on to three times the
-- way. These numbers come from replays of recorded scans, which the project's decisions describe.
CREATE OR REPLACE FUNCTION lookalike.search_scan(
    query halfvec, k int, condition text, exclude bigint[], ef int, max_distance float8, index_ms float8, no_index boolean,
    bounded boolean, fitted lookalike.transforms, depth int, probes int, OUT ids bigint[], OUT distances float8[], OUT report jsonb
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off SET enable_sort = off
SET hnsw.iterative_scan = relaxed_order SET hnsw.ef_search = 100 SET hnsw.max_scan_tuples = 1000000
SET hnsw.scan_mem_multiplier = 16 SET ivfflat.iterative_scan = relaxed_order SET ivfflat.probes = 1
AS $$
#variable_conflict use_variable
DECLARE
    began timestamptz := clock_timestamp();
    hit record;
    found_ids bigint[] := '{}';
    found_distances float8[] := '{}';
    depths int[] := '{}';
    scanned int := 0;
    found int := 0;
    step int;  -- rows that the index finds at a time, after the first batch
    next_look int := 60;
    nearest float8 := 'infinity';  -- of the rows since the last look
    reach float8;  -- how deep the scan must go, as far as can be told
    row_ms float8;
    exact_ms float8;
    total float8;
    seen int;
    passed int;
    filter_row_ms float8;
    passing float8;  -- rows of the whole table that pass, from the sample
    verdict text := 'the scan ended';
    wanted int := coalesce(depth, k);  -- rows that pass before the scan may end
    signs "bit";
    near halfvec;
    source text := 'SELECT e.image_id, e.embedding <-> $1 AS distance FROM lookalike.active_embeddings e '
                   'ORDER BY e.embedding <-> $1 LIMIT 1000000';
    distance text := 'e.distance';
BEGIN
    -- A loop over a query fetches 10 rows, then 50 at a time, so looks lie at 10 + a multiple of 50: giving up has then
    -- not already paid for the next batch. The first batch is small: it is lost where the exact way must answer.
    step := greatest(ceil((ef - 60) / 50.0) * 50, 50);
    PERFORM set_config('hnsw.ef_search', next_look::text, true);
    IF probes IS NOT NULL THEN
        PERFORM set_config('ivfflat.probes', probes::text, true);
    END IF;
    IF fitted.bits IS NOT NULL THEN
        signs := binary_quantize(lookalike.transformed(fitted.id, 'bits', query));
        source := 'SELECT c.image_id FROM lookalike.active_candidates c ORDER BY c.bits <~> $3 LIMIT 1000000';
    ELSIF depth IS NOT NULL THEN
        near := lookalike.transformed(fitted.id, 'reduced', query)::halfvec;
        source := 'SELECT c.image_id FROM lookalike.active_candidates c ORDER BY c.reduced <-> $4 LIMIT 1000000';
    END IF;
    IF depth IS NOT NULL THEN
        -- Of those that pass alone. A candidate whose embedding is gone has none, and counts for nothing.
        distance := '(SELECT a.embedding <-> $1 FROM lookalike.active_embeddings a WHERE a.image_id = e.image_id AND e.passes)';
    END IF;
    FOR hit IN EXECUTE format($sql$
        SELECT e.image_id, %s AS distance, e.passes
        FROM (SELECT e.*, (SELECT %s FROM lookalike.images i WHERE i.id = e.image_id) AS passes
              FROM (%s) e WHERE e.image_id <> ALL ($2) OFFSET 0) e
        $sql$, distance, condition, source) USING query, exclude, signs, near
    LOOP
        scanned := scanned + 1;
        IF hit.distance < nearest THEN
            nearest := hit.distance;
        END IF;
        IF hit.passes AND hit.distance IS NOT NULL THEN
            found := found + 1;
            found_ids[found] := hit.image_id;
            found_distances[found] := hit.distance;
            depths[found] := scanned;
        END IF;
        CONTINUE WHEN scanned < next_look;

        IF found >= wanted THEN
            -- Among candidates the order is rough in itself: how deep to look is in their number.
            reach := CASE WHEN depth IS NOT NULL THEN depths[wanted] WHEN depths[greatest(k / 3, 1)] <= depths[k] / 2
                THEN depths[k] * (1.2 + 1 / sqrt(k)) + 100 ELSE depths[k] * 3 END;
            reach := CASE WHEN depth IS NULL THEN greatest(reach, 60 + step) ELSE reach END;  -- what ef_search promises
            IF scanned >= reach THEN
                verdict := 'enough rows passed';
                EXIT;
            END IF;
        ELSE
            reach := scanned + 1.25 * (wanted - found) * scanned / (found + 0.5);
        END IF;
        IF depth IS NULL AND nearest > max_distance THEN
            verdict := 'max_distance reached';
            EXIT;
        END IF;
        IF bounded THEN
            row_ms := extract(epoch FROM clock_timestamp() - began) * 1000 / scanned;
            -- Not before what is left to scan is worth the sample, or could cost more than the exact way.
            IF exact_ms IS NULL AND (reach - scanned) * row_ms > greatest(index_ms * 0.3, 1) THEN
                IF NOT no_index AND (reach - scanned) * row_ms > 6 * index_ms THEN
                    exact_ms := index_ms * 1.6;  -- too clear for the planner's estimate to be that wrong
                ELSE
                    SELECT * INTO total, seen, passed, filter_row_ms FROM lookalike.search_sample(condition);
                    passing := total * (passed + 0.5) / (seen + 1);
                    exact_ms := 0.5 + passing * row_ms / 10 + CASE WHEN no_index THEN total * filter_row_ms
                        ELSE least(total * filter_row_ms, greatest(index_ms, passing * filter_row_ms)) END;
                END IF;
            END IF;
            -- Sixty rows are a small sample of the neighbourhood: only a clear case is decided on them. And a promise
            -- of being there soon is not believed for ever: where exactly k rows pass, it is made at every look.
            IF (reach - scanned) * row_ms > exact_ms * (CASE WHEN scanned <= 60 THEN 1.5 ELSE 1 END)
               OR (found < wanted AND scanned * row_ms > 1.5 * exact_ms) THEN
                verdict := 'exact promised to be faster';
                EXIT;
            END IF;
        END IF;
        IF scanned = 60 THEN
            PERFORM set_config('hnsw.ef_search', step::text, true);
        END IF;
        next_look := scanned + step * greatest(1, ceil((least(reach, scanned * 1.25) - scanned) / step));
        nearest := 'infinity';
    END LOOP;

    report := jsonb_build_object(
        'scanned', scanned, 'passed', found, 'ended', verdict, 'row_ms', round(row_ms::numeric, 4),
        'exact_ms', round(exact_ms::numeric, 3), 'passing', round(passing), 'sampled', seen,
        'filter_row_ms', round(filter_row_ms::numeric, 5),
        'ms', round(extract(epoch FROM clock_timestamp() - began) * 1000, 3));
    IF verdict IN ('enough rows passed', 'max_distance reached') THEN
        SELECT array_agg(n.id ORDER BY n.distance, n.id), array_agg(n.distance ORDER BY n.distance, n.id)
        INTO ids, distances
        FROM (SELECT u.id, u.distance FROM unnest(found_ids, found_distances) AS u (id, distance)
              ORDER BY u.distance, u.id LIMIT k) n;
        ids := coalesce(ids, '{}');
    END IF;
END
$$;
