"""Run a measurement: copy a sample to a scratch database, build each index once, measure it, store the results."""

import logging
import math
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby

import psycopg
from psycopg.rows import scalar_row

from app import db
from app.db import Connection, translated
from app.errors import ConfigurationError, DatabaseUnavailableError, InvalidInputError
from app.index.kinds.hnsw import index_bytes
from app.index.resources import Resources, free_disk, shown
from app.index.spec import IndexSpec, parse_spec
from app.store import spaces
from app.store.spaces import Space
from app.tuning import environment, measure, metrics, results, sample, scratch
from app.tuning.apply import BuildCost, apply_spec, build_of, clear, set_search
from app.tuning.metrics import Vectors
from app.tuning.progress import ProgressCallback, ProgressMeter
from app.tuning.records import Measurement, Request, Run
from app.tuning.sample import Sample

log = logging.getLogger(__name__)

# Timed searches of one spec: their approximate time limit in seconds, and their least number.
_TIMED_SECONDS, _LEAST_TIMED = 20.0, 30


def start(conn: Connection, space: Space, request: Request) -> Run:
    """Check a request and insert its run.

    Raises:
        InvalidInputError: an index spec is not valid.
    """
    for text in request.choices:
        parse_spec(text)
    return results.begin(conn, space, request, rows_total=count_rows(conn, space), conditions=environment.read(conn))


def count_rows(conn: Connection, space: Space) -> int:
    """Return the number of embeddings of a space; beyond a million, the planner's estimate."""
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        total = cursor.execute("SELECT lookalike.count_about(%s, 1000000)", (space.table_name,)).fetchone()
    return int(str(total or 0))


def resume(
    url: str,
    run: Run,
    *,
    scratch_url: str | None = None,
    queries: Vectors | None = None,
    callback: ProgressCallback | None = None,
) -> list[Measurement]:
    """Measure the specs that a run lacks; return all its measurements. If interrupted, call it again.

    `queries`: embeddings to search by, shape (queries, dimensions), instead of held-out images. The database at `url`
    is only read in short statements and gets one row per spec; all else happens in a scratch database, dropped at the
    end.
    """
    with ExitStack() as stack:
        source = stack.enter_context(db.connect(url, autocommit=True, application="lookalike tradeoffs"))
        space = spaces.get(source, run.space)
        missing = _missing(source, run)
        if missing:
            _check_disk(source, space, run, scratch_url)
            copy_url = stack.enter_context(scratch.database(scratch_url or url))
            copy = stack.enter_context(db.connect(copy_url, autocommit=True, application="lookalike tradeoffs"))
            meter = ProgressMeter(run.request, run.rows_total, missing, callback)
            drawn = sample.draw(
                source,
                copy,
                space,
                rows=run.request.sample,
                queries=run.request.queries if queries is None else queries,
                k=run.request.k,
                seed=run.request.seed,
                label=run.request.label,
                progress=lambda done, all_: meter.report("copying a sample", part="copy", share=done / all_),
            )
            meter.finish("copy")
            for specs in missing:
                found = _measure_build(copy_url, copy, drawn, specs, run.request, meter)
                results.add(source, run, found)
        results.end(source, run)
        return results.measurements(source, run)


def _missing(source: Connection, run: Run) -> list[list[IndexSpec]]:
    """Return the specs that are not measured yet, grouped by build."""
    have = {one.choice for one in results.measurements(source, run)}
    left = [spec for spec in map(parse_spec, run.request.choices) if str(spec) not in have]
    order = {build: n for n, build in enumerate(dict.fromkeys(map(build_of, left)))}
    left.sort(key=lambda spec: order[build_of(spec)])
    return [list(group) for _, group in groupby(left, key=build_of)]


def _check_disk(source: Connection, space: Space, run: Run, scratch_url: str | None) -> None:
    rows = min(run.request.sample, run.rows_total)
    # The table and the largest index, each with WAL; every build checks again by its own index.
    needed = 4 * index_bytes(rows, space.dimensions, 16)
    if scratch_url:
        with translated(), psycopg.connect(scratch_url, autocommit=True) as server:
            free = free_disk(server)
    else:
        free = free_disk(source)
    if free is not None and needed > free:
        raise ConfigurationError(
            f"a scratch copy of {rows:,} embeddings with its indexes takes about {shown(needed)}, but only "
            f"{shown(free)} are free on the server's disk; use a smaller sample (--sample) or another server "
            "(--scratch-url)"
        )


def _measure_build(
    url: str, conn: Connection, drawn: Sample, specs: Sequence[IndexSpec], request: Request, meter: ProgressMeter
) -> list[Measurement]:
    build = build_of(specs[0])
    meter.report(f"building {build}")
    try:
        built = apply_spec(conn, drawn.space, specs[0], Resources(workers=request.workers), seed=request.seed)
    except InvalidInputError as error:
        log.warning("%s is skipped: %s", build, error)
        return []
    meter.finish(build)
    trials = [_Trial(spec) for spec in specs]
    measure.prepare(conn)
    try:
        _search_all(conn, drawn, trials, request, meter)
        for trial in trials:
            if trial.failed:
                continue
            set_search(conn, drawn.space, trial.spec)
            for clients in request.clients:
                meter.report(f"throughput of {trial.spec}, clients: {clients}")
                trial.qps[str(clients)] = measure.throughput(
                    url, drawn.queries, k=request.k, clients=clients, seconds=request.seconds
                )
            meter.finish(f"{trial.spec} throughput")
        insert_ms = measure.insert_ms(conn, drawn)
    finally:
        if not conn.closed:
            conn.execute("RESET statement_timeout")
    clear(conn, drawn.space)
    return [_measurement(trial, drawn, request, built, insert_ms) for trial in trials if not trial.failed]


@dataclass
class _Trial:
    """The results of one spec while it is measured; `timed` is the number of queries to time per round."""

    spec: IndexSpec
    recalls: list[float] = field(default_factory=list)
    precision: float = float("nan")
    milliseconds: list[float] = field(default_factory=list)
    qps: dict[str, float] = field(default_factory=dict)
    timed: int = 0
    failed: bool = False


def _search_all(conn: Connection, drawn: Sample, trials: list[_Trial], request: Request, meter: ProgressMeter) -> None:
    """Search with each spec once, for recall and to warm the caches, then timed in turns, so that noise hits all."""
    rng = random.Random(request.seed)  # noqa: S311 — only an order
    count = len(drawn.queries)
    for trial in trials:
        meter.report(f"recall of {trial.spec}")
        set_search(conn, drawn.space, trial.spec)
        began = time.monotonic()
        try:
            first = measure.search_pass(conn, drawn.queries, k=request.k)
        except DatabaseUnavailableError as error:
            if not measure.is_timeout(error):
                raise
            log.warning(
                "%s is skipped: one of its searches took more than %d s", str(trial.spec), measure.STATEMENT_SECONDS
            )
            trial.failed = True
            continue
        trial.recalls = measure.recalls(first, drawn.truths)
        trial.precision = metrics.label_precision(first.found, drawn.labels, drawn.query_labels)
        seconds = time.monotonic() - began
        allowed = _TIMED_SECONDS / max(request.rounds, 1) / max(seconds / count, 1e-6)
        trial.timed = max(min(count, int(allowed)), min(count, _LEAST_TIMED))
        meter.finish(f"{trial.spec} latency")
    for turn in range(request.rounds):
        for trial in rng.sample(trials, len(trials)):
            if trial.failed:
                continue
            meter.report(f"latency of {trial.spec}, round {turn + 1} of {request.rounds}")
            set_search(conn, drawn.space, trial.spec)
            order = rng.sample(range(count), trial.timed)
            measure.search_pass(conn, drawn.queries[order[:2]], k=request.k)
            timed = measure.search_pass(conn, drawn.queries, k=request.k, order=order)
            trial.milliseconds += [timed.milliseconds[n] for n in order]


def _measurement(trial: _Trial, drawn: Sample, request: Request, built: BuildCost, insert_ms: float) -> Measurement:
    return Measurement(
        choice=str(trial.spec),
        options=trial.spec.options(),
        rows=drawn.rows,
        k=request.k,
        recall=sum(trial.recalls) / len(trial.recalls),
        recall_floor=1.0 if trial.spec.access is None else metrics.recall_floor(trial.recalls, request.k),
        label_precision=None if math.isnan(trial.precision) else trial.precision,
        p50_ms=measure.quantile(trial.milliseconds, 0.5),
        p95_ms=measure.quantile(trial.milliseconds, 0.95),
        p99_ms=measure.quantile(trial.milliseconds, 0.99),
        p95_ceiling_ms=metrics.quantile_ceiling(trial.milliseconds, 0.95),
        qps=trial.qps,
        build_seconds=built.seconds,
        insert_ms=insert_ms,
        index_bytes=built.index_bytes,
        table_bytes=drawn.table_bytes + built.candidates_bytes,
        memory_bytes=built.memory_bytes,
        query_ms=trial.milliseconds,
        query_recalls=trial.recalls,
    )
