"""Checks whether `lookalike tune` keeps its promises, with random goals and independent measurements.

`python -m bench.search.tune --vectors FILE` (see bench/README.md): the lab measures a grid, and the bench draws goals
that a measured choice meets. For each goal, tune picks a choice and applies it to the real database. A judge then
searches new queries in its own session and compares them with brute force. It writes bench/results/tune.json; with
--report FOLDER also the lab's own report.
"""

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app import db
from app.db import Connection
from app.index.spec import IndexSpec
from app.store import spaces
from app.tuning import goals, grid, measure, pareto, report, results, run
from app.tuning.apply import switch_and_promise
from app.tuning.goals import Goal, Promise
from app.tuning.metrics import Exact, Truth, Vectors
from app.tuning.records import Measurement, Request
from bench.options import RESULTS, parse_options
from bench.scratch import scratch
from bench.search import data

ROUNDS = 3
ALLOWED_RECALL, ALLOWED_P95 = 0.01, 1.2


@dataclass(frozen=True)
class Outcome:
    """A goal, the choice and promise of tune, and the judge's measurements.

    `kept`: the promise holds. `near`: the judge is within 1 % recall and 20 % p95 of the lab, in both directions.
    """

    goal: Goal
    choice: str
    promise: Promise
    measured_recall: float
    measured_p95_ms: float
    found_recall: float
    found_p95_ms: float
    kept: bool
    near: bool


def load(conn: Connection, vectors: Vectors) -> None:
    """Store the vectors as images 1, 2, … of a new active space without an index; no worker is asked for anything."""
    conn.execute(
        "SELECT lookalike.create_space('bench', 'none', %s, '{}', 'none', index_options => '{\"kind\": \"exact\"}')",
        (vectors.shape[1],),
    )
    table = spaces.active(conn).table_name
    conn.execute("ALTER TABLE lookalike.images DISABLE TRIGGER USER")
    with conn.cursor() as cursor, cursor.copy("COPY lookalike.images (id, uri) FROM STDIN") as copy:
        copy.write("".join(f"{n}\tbench:{n}\n" for n in range(1, len(vectors) + 1)))
    data.load_vectors(conn, vectors, table=f"lookalike.{table}")
    conn.execute("ALTER TABLE lookalike.images ENABLE TRIGGER USER")
    conn.execute("VACUUM (ANALYZE)")


def reachable(measured: list[Measurement], rng: random.Random) -> Goal:
    """Draw a goal that at least one measured choice meets: one to three metrics, each with a random slack."""
    promise = goals.promise_of(rng.choice(measured))
    slack = rng.uniform(1.0, 1.5)
    parts = rng.sample(("recall", "p95_ms", "bytes_per_image", "qps"), rng.randint(1, 3))
    wanted: dict[str, float] = {}
    for part in parts:
        value = getattr(promise, part)
        if part == "recall":
            wanted[part] = 1 - (1 - value) * slack
        else:
            wanted[part] = value / slack if part == "qps" else value * slack
    return Goal(**wanted)


def judge(url: str, queries: Vectors, truths: list[Truth], *, k: int) -> tuple[float, float]:
    """Return mean recall and p95 in milliseconds, measured in a new session.

    The first pass measures recall and loads the index into the server's cache; the timed passes follow, as in the lab.
    """
    with db.connect(url, autocommit=True, application="lookalike bench") as conn:
        recalls = measure.recalls(measure.search_pass(conn, queries, k=k), truths)
        timed = [ms for _ in range(ROUNDS) for ms in measure.search_pass(conn, queries, k=k).milliseconds]
    return sum(recalls) / len(recalls), measure.quantile(timed, 0.95)


def main() -> None:
    """Run the bench, print a line per goal and the number of promises kept, and write the raw numbers."""
    options = _options()
    rng = random.Random(options.seed)
    vectors = data.unit(np.load(options.vectors).astype(np.float32)) if options.vectors else None
    if vectors is None:
        vectors = data.made_vectors(options.rows + options.judges, 256, np.random.default_rng(options.seed))
    held = np.linspace(0, len(vectors) - 1, options.judges).astype(int)
    rest = np.delete(vectors, held, axis=0)
    stored = rest[np.sort(np.random.default_rng(options.seed).permutation(len(rest))[: options.rows])]
    with scratch(options.url) as url, db.connect(url, autocommit=True) as conn:
        load(conn, stored)
        space = spaces.active(conn)
        exact = Exact(vectors[held], options.k)
        exact.add(np.arange(1, len(stored) + 1), stored)
        request = Request(
            choices=tuple((grid.quick if options.quick else grid.standard)(space.dimensions, len(stored))),
            k=options.k,
            seed=options.seed,
            rounds=ROUNDS,
            seconds=1.0,
            workers=1,
        )
        made = run.start(conn, space, request)
        measured = run.resume(url, made, callback=lambda now: print(f"\r{now.done:4.0%} {now.now:<70}", end=""))
        print()
        made = results.get(conn, made.id)
        points = pareto.points(measured, None)
        if options.report:
            print(report.write(options.report, made, points))
        _write(options.results, made.conditions, len(stored), [], points)
        outcomes = _outcomes(conn, url, measured, rng, options, vectors[held], exact.truths())
    kept, near = sum(one.kept for one in outcomes), sum(one.near for one in outcomes)
    print(f"{kept} of {len(outcomes)} promises kept; {near} within 1 % recall and 20 % p95 of the lab, both ways")
    _write(options.results, made.conditions, len(stored), outcomes, points)


def _outcomes(
    conn: Connection,
    url: str,
    measured: list[Measurement],
    rng: random.Random,
    options: argparse.Namespace,
    queries: Vectors,
    truths: list[Truth],
) -> list[Outcome]:
    drawn = [reachable(measured, rng) for _ in range(options.goals)]
    picked = [(goal, goals.pick(measured, goal)) for goal in drawn]
    # Sorted by choice, so that each is built once; the judge still measures for each goal.
    picked.sort(key=lambda one: one[1].chosen.choice if one[1].chosen else "")
    outcomes = []
    before = ""
    for goal, found in picked:
        if found.chosen is None or found.promise is None:
            raise SystemExit(f"{goal} was drawn from a measured choice, but no choice meets it")
        if found.chosen.choice != before:
            began = time.monotonic()
            choice = IndexSpec.of(found.chosen.options)
            switch_and_promise(conn, spaces.active(conn), choice, promise=asdict(found.promise))
            print(f"{found.chosen.choice} applied in {time.monotonic() - began:.1f} s")
            before = found.chosen.choice
        recall, p95 = judge(url, queries, truths, k=options.k)
        promise, one = found.promise, found.chosen
        outcome = Outcome(
            goal,
            one.choice,
            promise,
            one.recall,
            one.p95_ms,
            recall,
            p95,
            kept=recall >= promise.recall - ALLOWED_RECALL and p95 <= promise.p95_ms * ALLOWED_P95,
            near=abs(recall - one.recall) <= ALLOWED_RECALL and 1 / ALLOWED_P95 <= p95 / one.p95_ms <= ALLOWED_P95,
        )
        outcomes.append(outcome)
        wanted = ", ".join(f"{name} {value:.4g}" for name, value in asdict(goal).items() if value is not None)
        print(
            f"{'kept' if outcome.kept else 'NOT '} {one.choice}: promised {promise.recall:.4f}, "
            f"{promise.p95_ms:.2f} ms; found {recall:.4f}, {p95:.2f} ms ({wanted})"
        )
    return outcomes


def _write(
    path: Path | None, conditions: dict[str, Any], rows: int, outcomes: list[Outcome], points: list[pareto.Point]
) -> None:
    if path is None:
        return
    path.parent.mkdir(exist_ok=True)
    shown = []
    for point in points:
        one = asdict(point.measured)
        for raw in ("query_ms", "query_recalls", "measured_at"):
            del one[raw]
        shown.append({**one, "bytes_per_image": point.measured.bytes_per_image, "best": point.best, "fast": point.fast})
    path.write_text(
        json.dumps(
            {"conditions": conditions, "rows": rows, "outcomes": [asdict(one) for one in outcomes], "points": shown},
            indent=1,
            default=str,
        )
        + "\n",
        encoding="utf-8",
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=Path, help=".npy of unit vectors (default: synthetic)")
    parser.add_argument("--rows", type=int, default=19_600)
    parser.add_argument("--goals", type=int, default=20)
    parser.add_argument("--judges", type=int, default=400, help="queries of the judge")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--url", help="your own empty database (default: a scratch embedded server)")
    parser.add_argument("--report", type=Path, help="folder for the lab's own report")
    parser.add_argument("--results", type=Path, default=RESULTS / "tune.json", help="file to write")
    return parse_options(parser, quick={"rows": 400, "goals": 1, "judges": 40, "results": None})


if __name__ == "__main__":
    main()
