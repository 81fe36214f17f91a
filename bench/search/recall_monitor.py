"""Measures how accurate the monitor of live recall is, and what it costs the server.

`python -m bench.search.recall_monitor --vectors FILE` runs on a scratch embedded server. The index is searched poorly
on purpose (ef_search 10). One client searches without a pause, with filters of several selectivities.

- Estimate: a random part of the searches is kept, up to --samples, and checked.
- Cost: the searches go on for --seconds, while another session checks samples within the budget, like an idle worker.
  The CPU time of every server process (/proc) gives the monitor's share.
- Truth: the recall of --truths searches of the same mix, each against numpy's exact answer. 1,000 draws of as many
  samples from these recalls show how often such an estimate and its interval are right.

It writes `bench/results/recall_monitor.json`.
"""

import argparse
import json
import os
import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg.types.json import Jsonb

from app import db
from app.index.build import build_index
from app.monitoring import recall
from app.search.request import Request
from app.search.results import SearchResult
from app.search.run import run_search
from app.store import spaces
from app.tuning.metrics import Exact
from app.types import Json
from bench.options import RESULTS, parse_options
from bench.scratch import scratch
from bench.search import data

K = 10
# Share of the rows that a filter keeps (None: no filter), and share of the searches with this filter.
MIX: tuple[tuple[float | None, float], ...] = ((None, 0.4), (0.5, 0.15), (0.2, 0.15), (0.05, 0.15), (0.01, 0.15))


@dataclass(frozen=True)
class Asked:
    """One search of the mix: a query and the share of rows that its filter keeps."""

    query: NDArray[np.float32]
    share: float | None

    @property
    def filter(self) -> Json | None:
        return None if self.share is None else {"rank": {"$lt": int(self.share * data.SCALE)}}


def make(conn: db.Connection, vectors: NDArray[np.float32], *, m: int, ef_search: int, seed: int) -> NDArray[np.int64]:
    """Store the rows with a random rank for filters, and build the index; return the ranks."""
    rank = np.random.default_rng(seed).permutation(len(vectors)) * (data.SCALE // len(vectors))
    dimensions = vectors.shape[1]
    conn.execute(
        "SELECT lookalike.create_space('bench', 'none', %s, '{}', 'none', index_options => %s)",
        (dimensions, Jsonb({"m": m, "ef_construction": max(4 * m, 8), "ef_search": ef_search})),
    )
    with conn.transaction(), conn.cursor() as cursor:
        with cursor.copy("COPY lookalike.images (uri, attributes) FROM STDIN") as copy:
            for n, one in enumerate(rank.tolist()):
                copy.write_row((f"/bench/{n}", json.dumps({"rank": one})))
        with cursor.copy("COPY lookalike.embeddings_1 FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "halfvec"])
            for n, vector in enumerate(vectors, start=1):
                copy.write_row((n, HalfVector(vector)))
        cursor.execute("DELETE FROM lookalike.jobs")
    conn.execute("VACUUM ANALYZE lookalike.images, lookalike.embeddings_1")
    build_index(conn, spaces.active(conn))
    return rank


def truth(conn: db.Connection, vectors: NDArray[np.float32], rank: NDArray[np.int64], mix: list[Asked]) -> list[float]:
    """Return the tie-aware recall of each search, against numpy's exact answer."""
    recalls = [0.0] * len(mix)
    ids = np.arange(1, len(vectors) + 1, dtype=np.int64)
    for share in dict.fromkeys(one.share for one in mix):
        places = [n for n, one in enumerate(mix) if one.share == share]
        passing = np.ones(len(vectors), bool) if share is None else rank < int(share * data.SCALE)
        exact = Exact(np.stack([mix[n].query for n in places]), K)
        exact.add(ids[passing], vectors[passing])
        for n, true in zip(places, exact.truths(), strict=True):
            found = conn.execute(
                "SELECT id FROM lookalike.search(%s, %s, %s)", (HalfVector(mix[n].query), K, _json(mix[n].filter))
            ).fetchall()
            recalls[n] = true.recall([int(str(row[0])) for row in found])
    return recalls


def _json(value: Json | None) -> Jsonb | None:
    return None if value is None else Jsonb(value)


def cpu_seconds(pids: list[int]) -> dict[int, float]:
    """Return the CPU seconds (user and system) of these processes, without those that have ended."""
    tick = os.sysconf("SC_CLK_TCK")
    used = {}
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        used[pid] = (int(fields[11]) + int(fields[12])) / tick
    return used


def server_pids(conn: db.Connection) -> list[int]:
    """Return the ids of the server's processes without the postmaster."""
    rows = conn.execute("SELECT pid FROM pg_stat_activity WHERE pid IS NOT NULL").fetchall()
    return [int(str(row[0])) for row in rows]


class Monitor(threading.Thread):
    """Checks samples within the budget, like an idle worker."""

    def __init__(self, url: str, budget: float) -> None:
        super().__init__(daemon=True)
        self._url, self._budget = url, budget
        self.done = threading.Event()
        self.pid = 0
        self.cpu = 0.0

    def run(self) -> None:
        with closing(db.connect(self._url, autocommit=True, application="bench monitor")) as conn:
            self.pid = conn.info.backend_pid
            while not self.done.wait(1.0):
                if (left := recall.allowance(conn, budget=self._budget)) > 0:
                    recall.check(conn, seconds=min(left, 1.0), stopped=self.done.is_set)
                self.cpu = cpu_seconds([self.pid])[self.pid]


def estimate(url: str, mix: list[Asked], options: argparse.Namespace) -> dict[str, Any]:
    """Search until enough samples are kept, check them all, and return the estimate."""
    rng = np.random.default_rng(options.seed + 1)
    with db.connect(url, autocommit=True) as conn:
        searches = kept = 0
        while kept < options.samples:
            asked, found = search(conn, mix[int(rng.integers(len(mix)))])
            searches += 1
            if rng.random() < 0.5:
                kept += recall.save_sample(conn, asked, found, source="api")
        done = recall.check(conn)
        overall = recall.current_estimate(recall.estimates(conn), "bench")
        parts = [asdict(one) for one in recall.estimates(conn) if one.period_seconds == 86_400]
        by_index = conn.execute("SELECT count(*) FROM lookalike.recall_checks WHERE plan = 'index'").fetchone() or (0,)
    return {
        "searches": searches,
        "checks": done.checked,
        "given_up": done.failed,
        "by_index": int(str(by_index[0])),
        "check_seconds": done.seconds,
        "estimate": None if overall is None else asdict(overall),
        "parts": parts,
    }


def search(conn: db.Connection, one: Asked) -> tuple[Request, SearchResult]:
    """Run one search of the mix like the API."""
    asked = Request(query=one.query, k=K, filter=one.filter)
    return asked, run_search(conn, asked)


def cost(url: str, mix: list[Asked], options: argparse.Namespace) -> dict[str, Any]:
    """Search for `options.seconds` while the monitor checks samples; return its share of the server's time."""
    rng = np.random.default_rng(options.seed + 2)
    monitor = Monitor(url, options.budget)
    with db.connect(url, autocommit=True) as conn:
        conn.execute("DELETE FROM lookalike.recall_checks")
        before = cpu_seconds(server_pids(conn))
        monitor.start()
        began = time.monotonic()
        searches = 0
        while time.monotonic() - began < options.seconds:
            asked, found = search(conn, mix[int(rng.integers(len(mix)))])
            searches += 1
            if rng.random() < options.share:
                recall.save_sample(conn, asked, found, source="api")
        wall = time.monotonic() - began
        monitor.done.set()
        monitor.join(60)
        after = cpu_seconds(server_pids(conn)) | {monitor.pid: monitor.cpu}
        used = {pid: seconds - before.get(pid, 0.0) for pid, seconds in after.items()}
        checks = conn.execute(
            "SELECT count(*), coalesce(sum(seconds), 0), percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds)"
            " FROM lookalike.recall_checks"
        ).fetchone() or (0, 0, 0)
    return {
        "seconds": wall,
        "searches": searches,
        "searches_per_second": searches / wall,
        "checks": int(str(checks[0])),
        "check_median_ms": float(str(checks[2] or 0)) * 1000,
        "monitor_cpu_seconds": used[monitor.pid],
        "server_cpu_seconds": sum(used.values()),
        "share_of_server_cpu": used[monitor.pid] / sum(used.values()),
        "share_of_wall_time": float(str(checks[1])) / wall,
    }


def draws(recalls: NDArray[np.float64], samples: int, *, seed: int, rounds: int = 1000) -> dict[str, float]:
    """Return the error of an estimate from `samples` samples over many draws, and how often its interval holds."""
    rng = np.random.default_rng(seed)
    mean = recalls.mean()
    drawn = rng.choice(recalls, (rounds, samples))
    means = drawn.mean(axis=1)
    spread = (drawn**2).sum(axis=1) - samples * means**2 + means**2 + (1 - means) ** 2
    margins = 1.96 * np.sqrt(spread) / samples
    errors = np.abs(means - mean)
    return {
        "within_0.01": float((errors <= 0.01).mean()),
        "error_median": float(np.median(errors)),
        "error_p95": float(np.quantile(errors, 0.95)),
        "margin_median": float(np.median(margins)),
        "interval_holds": float((errors <= margins).mean()),
    }


def main() -> None:
    """Run the bench, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=Path, help=".npy of embeddings (default: synthetic)")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=500, help="vectors to hold out as queries")
    parser.add_argument("--truths", type=int, default=2000, help="searches whose true recall is measured")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--share", type=float, default=0.05, help="share of the searches to keep as samples")
    parser.add_argument("--budget", type=float, default=0.018)
    parser.add_argument("--m", type=int, default=16)
    parser.add_argument("--ef-search", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=120, help="seconds for which the cost is measured")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS / "recall_monitor.json", help="file to write")
    quick = {"rows": 1000, "queries": 20, "truths": 50, "samples": 10, "seconds": 2, "results": None}
    options = parse_options(parser, quick=quick)
    made = data.make(
        rows=options.rows - (options.queries if options.vectors else 0),
        queries=options.queries,
        file=options.vectors,
        dimensions=1280,
        seed=options.seed,
    )
    rng = np.random.default_rng(options.seed)
    shares = rng.choice(len(MIX), options.truths, p=[weight for _, weight in MIX])
    mix = [Asked(made.queries[int(rng.integers(len(made.queries)))], MIX[int(n)][0]) for n in shares]
    with scratch(None) as url, db.connect(url, autocommit=True) as conn:
        rank = make(conn, made.vectors, m=options.m, ef_search=options.ef_search, seed=options.seed)
        found = estimate(url, mix, options)
        spent = cost(url, mix, options)
        # The rows are still the same, because nothing else writes.
        recalls = np.array(truth(conn, made.vectors, rank, mix))
        with psycopg.connect(url) as plain:
            conditions = data.conditions(plain, seed=options.seed)
    estimated = (found["estimate"] or {"recall": None})["recall"]
    by_share = {
        "no filter" if share is None else f"{share:.0%}": float(
            np.mean([one for one, asked in zip(recalls, mix, strict=True) if asked.share == share])
        )
        for share, _ in MIX
    }
    result = {
        "monitor": found,
        "cost": spent,
        "truth": float(recalls.mean()),
        "truth_by_filter": by_share,
        "truth_searches": len(recalls),
        "error": None if estimated is None else abs(estimated - float(recalls.mean())),
        "draws": draws(recalls, options.samples, seed=options.seed),
        "conditions": {
            **conditions,
            "psycopg": psycopg.__version__,
            **{name: str(value) for name, value in vars(options).items() if name not in ("vectors", "results")},
            "real_vectors": options.vectors is not None,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }
    if options.results:
        options.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"truth {result['truth']:.4f} over {len(recalls)} searches; by filter {by_share}")
    print(f"estimate {estimated} from {found['checks']} samples, error {result['error']}")
    print(f"monitor: {spent['share_of_server_cpu']:.2%} of the server's CPU, {spent['share_of_wall_time']:.2%} of time")
    print(f"1000 draws of {options.samples}: {result['draws']}")


if __name__ == "__main__":
    main()
