"""`python -m bench.soak`: run the load and the operations in turn until the time is over, then judge."""

import argparse
import multiprocessing
import pickle
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app import db
from bench.options import parse_options
from bench.search import data
from bench.soak import judge, pool, report, world
from bench.soak.clients import Load, Search, run_changes, run_searches
from bench.soak.operations import Programme

_SPAWN = multiprocessing.get_context("spawn")
_ANCHORS = 100
_WARM_SECONDS = 5.0  # searches before the measurement
CLIENTS = ("sql-1", "sql-2", "sql-3", "http-1", "http-2")


def main() -> int:
    """Run the soak; return 0 if no search failed and everything holds at the end, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--duration", type=float, default=600, help="seconds after which no new round of operations begins"
    )
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--searches", type=float, default=10, help="searches a second of each of the five clients")
    parser.add_argument("--changes", type=float, default=4, help="inserts, updates and deletes a second")
    parser.add_argument(
        "--calm", type=float, default=10, help="seconds of load alone before each operation, for comparison"
    )
    parser.add_argument("--second", default=pool.SMALL, help="the other model")
    parser.add_argument("--pictures", type=Path, help="folder that keeps pictures and embeddings between runs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, help="write PATH.json and PATH.png")
    parser.add_argument("--readme", type=Path, help="file in which to replace the table")
    options = parse_options(parser, quick={"duration": 1, "images": 200, "calm": 1})
    # SIGTERM ends the server and the other processes, like Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as scratch:
        made = pool.make(
            options.pictures or Path(scratch),
            pictures=options.images + max(100, options.images // 5),
            seed=options.seed,
            second=options.second,
        )
        print(f"{len(made.files)} pictures embedded in both models", flush=True)
        with world.build(made, images=options.images) as built:
            result, raw = _run(built, options, Path(scratch))
    print("\n".join(report.lines(result)))
    for one in (*result["broken"], *result["examples"]):
        print(one)
    if options.results:
        report.write(result, raw, options.results)
    if options.readme:
        report.into_readme(options.readme, result)
    return 1 if result["broken"] or result["change_errors"] or any(result["faults"].values()) else 0


def _run(built: world.World, options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    order = sorted(built.images.items(), key=lambda one: one[1])
    load = Load(
        url=built.url,
        api=built.api,
        anchors=dict(order[:_ANCHORS]),
        numbers={str(file): number for number, file in enumerate(built.pool.files)},
        files=[str(file) for file in built.pool.files],
        embeddings={model.name: _kept(folder, model) for model in built.pool.models},
        a_second=options.searches,
        seed=options.seed,
    )
    over, ready = _SPAWN.Event(), _SPAWN.Queue()
    clients = [
        _SPAWN.Process(target=run_searches, args=(load, name, ready, over, str(folder / name))) for name in CLIENTS
    ]
    free = list(range(len(order), len(built.pool.files)))
    changer = _SPAWN.Process(
        target=run_changes,
        args=(
            Load(**{**load.__dict__, "a_second": options.changes}),
            free,
            dict(order[_ANCHORS:]),
            ready,
            over,
            str(folder / "changes"),
        ),
    )
    for process in (*clients, changer):
        process.start()
    for _ in (*clients, changer):
        ready.get(timeout=120)
    time.sleep(_WARM_SECONDS)
    zero = time.monotonic()
    programme = Programme(built, options.calm)
    broken: list[str] = []
    try:
        while not programme.done or time.monotonic() - zero < options.duration:
            programme.round()
    except RuntimeError as error:
        broken.append(f"the programme stopped: {error}")
    seconds = time.monotonic() - zero
    over.set()
    for process in (*clients, changer):
        process.join(60)
    done: list[Search] = [one for name in CLIENTS for one in pickle.loads((folder / name).read_bytes())]  # noqa: S301
    changes, held = pickle.loads((folder / "changes").read_bytes())  # noqa: S301
    with db.connect(built.url, autocommit=True, application="soak judge") as conn:
        built.until(
            lambda: conn.execute("SELECT NOT EXISTS (SELECT FROM lookalike.jobs)").fetchone() == (True,),
            "the queue is drained",
        )
        broken += judge.invariants(conn, built.pool, held | load.anchors, programme.models)
        recall = judge.recall(conn, list(load.anchors))
        about = data.conditions(conn, seed=options.seed)
    if recall < 0.99:
        broken.append(f"recall@10 is {recall:.4f}")
    return _result(built, programme, done, changes, zero, seconds, broken, recall, about, options)


def _kept(folder: Path, model: pool.Model) -> str:
    import numpy as np

    file = folder / f"{model.name}.npy"
    np.save(file, model.embeddings)
    return str(file)


def _result(
    built: world.World,
    programme: Programme,
    done: list[Search],
    changes: list[tuple[float, float, str, str]],
    zero: float,
    seconds: float,
    broken: list[str],
    recall: float,
    about: dict[str, Any],
    options: argparse.Namespace,
) -> tuple[dict[str, Any], dict[str, Any]]:
    faults, examples = judge.count(done, built.pool, programme.models)
    examples += [f"change: {kind}: {error}" for _, _, kind, error in changes if error][:10]
    raw_searches = sorted([round(one.began - zero, 2), round(one.seconds * 1000, 2), one.kind] for one in done)
    operations = [
        {k: round(v - zero, 2) if isinstance(v, float) else v for k, v in asdict(one).items()} for one in programme.done
    ]
    given = {name: value for name, value in vars(options).items() if name not in ("results", "readme", "pictures")}
    result = {
        "conditions": {
            **about,
            **given,
            "dimensions": [model.embeddings.shape[1] for model in built.pool.models],
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "seconds": round(seconds, 1),
        "searches": len(done),
        "by_kind": {kind: sum(one.kind == kind for one in done) for kind in sorted({one.kind for one in done})},
        "faults": dict(faults),
        "examples": examples,
        "broken": broken,
        "recall_at_10": recall,
        "apart": judge.apart(done, built.pool),
        "tolerance": judge.TOLERANCE,
        "changes": len(changes),
        "change_errors": sum(bool(error) for *_, error in changes),
        "longest_change_ms": max((1000 * seconds for _, seconds, _, _ in changes), default=0.0),
        "operations": report.per_operation(operations, raw_searches),
    }
    raw_changes = [[round(began - zero, 2), round(seconds * 1000, 2), kind] for began, seconds, kind, _ in changes]
    return result, {"raw_operations": operations, "raw_searches": raw_searches, "raw_changes": raw_changes}


if __name__ == "__main__":
    sys.exit(main())
