"""A run of the lab: a sample in a scratch database, each choice built once and measured, stored build by build."""

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
from app.index.resources import Resources, free_disk, index_bytes, shown
from app.index.spec import IndexSpec, parse_spec
from app.store import spaces
from app.store.spaces import Space
from app.tuning import environment, measure, metrics, results, sample, scratch
from app.tuning.apply import Built, apply_spec, build_of, clear, set_search
from app.tuning.metrics import Vectors
from app.tuning.progress import Clock, ProgressCallback
from app.tuning.records import Measurement, Request, Run
from app.tuning.sample import Sample

log = logging.getLogger(__name__)

# Timed searches of one choice may take about so long, and are this many at least.
_TIMED_SECONDS, _LEAST_TIMED = 20.0, 30


def start(conn: Connection, space: Space, request: Request) -> Run:
    """Check that what is asked for can be measured, and record the run. InvalidInputError for a choice or an option."""
    for text in request.choices:
        parse_spec(text)
    return results.begin(conn, space, request, rows_total=rows_of(conn, space), conditions=environment.read(conn))


def rows_of(conn: Connection, space: Space) -> int:
    """Return how many embeddings a space holds, beyond a million as the planner estimates it."""
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
    """Measure what the run lacks; return all that it has then. Interrupted, it may be called again.

    `queries`: embeddings to search by, shape (queries, dimensions), instead of held-out images. The database at `url`
    is read in short statements and written one row a choice; all else happens in a scratch database, gone at the end.
    """
    with ExitStack() as stack:
        source = stack.enter_context(db.connect(url, autocommit=True, application="lookalike lab"))
        space = spaces.get(source, run.space)
        missing = _missing(source, run)
        if missing:
            _check_room(source, space, run, scratch_url)
            lab_url = stack.enter_context(scratch.database(scratch_url or url))
            lab = stack.enter_context(db.connect(lab_url, autocommit=True, application="lookalike lab"))
            clock = Clock(run.request, run.rows_total, missing, callback)
            drawn = sample.draw(
                source,
                lab,
                space,
                rows=run.request.sample,
                queries=run.request.queries if queries is None else queries,
                k=run.request.k,
                seed=run.request.seed,
                label=run.request.label,
                progress=lambda done, all_: clock.report("copying a sample", part="copy", share=done / all_),
            )
            clock.finish("copy")
            for choices in missing:
                found = _measure_build(lab_url, lab, drawn, choices, run.request, clock)
                results.add(source, run, found)
        results.end(source, run)
        return results.measurements(source, run)


def _missing(source: Connection, run: Run) -> list[list[IndexSpec]]:
    """Return the choices that are not measured yet, those of one build together."""
    have = {one.choice for one in results.measurements(source, run)}
    left = [choice for choice in map(parse_spec, run.request.choices) if str(choice) not in have]
    order = {build: n for n, build in enumerate(dict.fromkeys(map(build_of, left)))}
    left.sort(key=lambda choice: order[build_of(choice)])
    return [list(group) for _, group in groupby(left, key=build_of)]


def _check_room(source: Connection, space: Space, run: Run, scratch_url: str | None) -> None:
    rows = min(run.request.sample, run.rows_total)
    # Table with WAL, and the largest index with WAL; each build checks again, by its own index.
    needed = 4 * index_bytes(rows, space.dimensions, 16)
    if scratch_url:
        with translated(), psycopg.connect(scratch_url, autocommit=True) as there:
            free = free_disk(there)
    else:
        free = free_disk(source)
    if free is not None and needed > free:
        raise ConfigurationError(
            f"a scratch copy of {rows:,} embeddings with its indexes takes about {shown(needed)}, and {shown(free)} "
            "are free on the server's disk; measure a smaller sample (--sample), or elsewhere (--scratch-url)"
        )


def _measure_build(
    url: str, conn: Connection, drawn: Sample, choices: Sequence[IndexSpec], request: Request, clock: Clock
) -> list[Measurement]:
    clock.report(f"building {build_of(choices[0])}")
    try:
        built = apply_spec(conn, drawn.space, choices[0], Resources(workers=request.workers), seed=request.seed)
    except InvalidInputError as error:
        log.warning("%s is left out: %s", build_of(choices[0]), error)
        return []
    clock.finish(build_of(choices[0]))
    trials = [_Trial(choice) for choice in choices]
    measure.prepare(conn)
    try:
        _search(conn, drawn, trials, request, clock)
        for trial in trials:
            if trial.failed:
                continue
            set_search(conn, drawn.space, trial.choice)
            for clients in request.clients:
                clock.report(f"{trial.choice}, {clients} at once")
                trial.qps[str(clients)] = measure.throughput(
                    url, drawn.queries, k=request.k, clients=clients, seconds=request.seconds
                )
            clock.finish(f"{trial.choice} crowded")
        insert_ms = measure.insert_ms(conn, drawn)
    finally:
        if not conn.closed:
            conn.execute("RESET statement_timeout")
    clear(conn, drawn.space)
    return [_told(trial, drawn, request, built, insert_ms) for trial in trials if not trial.failed]


@dataclass
class _Trial:
    """One choice while it is measured."""

    choice: IndexSpec
    recalls: list[float] = field(default_factory=list)
    precision: float = float("nan")
    milliseconds: list[float] = field(default_factory=list)
    qps: dict[str, float] = field(default_factory=dict)
    timed: int = 0
    failed: bool = False


def _search(conn: Connection, drawn: Sample, trials: list[_Trial], request: Request, clock: Clock) -> None:
    """One pass each for the recall, which warms the caches too; then timed ones, in turns, so that noise hits all."""
    rng = random.Random(request.seed)  # noqa: S311 — an order, not a secret
    count = len(drawn.queries)
    for trial in trials:
        clock.report(f"recall of {trial.choice}")
        set_search(conn, drawn.space, trial.choice)
        began = time.monotonic()
        try:
            first = measure.search_pass(conn, drawn.queries, k=request.k)
        except DatabaseUnavailableError as error:
            if not measure.too_slow(error):
                raise
            log.warning(
                "%s is left out: a search of it took more than %d s", str(trial.choice), measure.STATEMENT_SECONDS
            )
            trial.failed = True
            continue
        trial.recalls = measure.recalls(first, drawn.truths)
        trial.precision = metrics.label_precision(first.found, drawn.labels, drawn.query_labels)
        seconds = time.monotonic() - began
        allowed = _TIMED_SECONDS / max(request.rounds, 1) / max(seconds / count, 1e-6)
        trial.timed = max(min(count, int(allowed)), min(count, _LEAST_TIMED))
        clock.finish(f"{trial.choice} searched")
    for turn in range(request.rounds):
        for trial in rng.sample(trials, len(trials)):
            if trial.failed:
                continue
            clock.report(f"latency of {trial.choice}, round {turn + 1} of {request.rounds}")
            set_search(conn, drawn.space, trial.choice)
            order = rng.sample(range(count), trial.timed)
            measure.search_pass(conn, drawn.queries[order[:2]], k=request.k)
            timed = measure.search_pass(conn, drawn.queries, k=request.k, order=order)
            trial.milliseconds += [timed.milliseconds[n] for n in order]


def _told(trial: _Trial, drawn: Sample, request: Request, built: Built, insert_ms: float) -> Measurement:
    return Measurement(
        choice=str(trial.choice),
        options=trial.choice.options(),
        rows=drawn.rows,
        k=request.k,
        recall=sum(trial.recalls) / len(trial.recalls),
        recall_floor=1.0 if trial.choice.kind == "exact" else metrics.recall_floor(trial.recalls, request.k),
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
