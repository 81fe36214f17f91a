"""Compares filtered search with other ways to search: `python -m bench.search.filters`.

It sweeps the share of rows that a filter keeps and the filter's position relative to the query. The contenders take
turns, query by query, on one server. It writes raw results for bench.search.filters_report.
"""

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.db import embedded, schema
from bench.options import RESULTS, parse_options
from bench.search import data
from bench.search.data import SCALE, SHARES, Dataset

KINDS = ("random", "label", "position", "far")
TIMEOUT_MS = 2_000  # a slower search is cancelled and counts with this time and no rows
MOST_TIMEOUTS = 2  # after this many timeouts a contender leaves the point
EPSILON = 1e-3
SERVER = {"shared_buffers": "3GB", "max_wal_size": "8GB", "fsync": "off", "synchronous_commit": "off"}
FIELDS = ("rows", "kind", "share", "k", "query", "timed", "contender", "ms", "cpu_ms", "recall", "returned", "expected")

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


PLAIN = """
    SELECT g.id FROM lookalike.gallery g JOIN lookalike.images i ON i.id = g.id WHERE {condition}
    ORDER BY g.embedding <-> (SELECT q.embedding FROM lookalike.bench_queries q WHERE q.n = {query}) LIMIT {k}
    """
# As pgvector's README advises for relaxed order.
RELAXED = """
    WITH relaxed AS MATERIALIZED (
        SELECT i.id, e.embedding <-> (SELECT q.embedding FROM lookalike.bench_queries q WHERE q.n = {query}) AS distance
        FROM lookalike.images i JOIN lookalike.active_embeddings e ON e.image_id = i.id WHERE {condition}
        ORDER BY distance LIMIT {k}
    )
    SELECT r.id FROM relaxed r ORDER BY r.distance + 0
    """
OURS = """
    SELECT s.id FROM lookalike.bench_queries q,
        LATERAL lookalike.search(q.embedding, %(k)s, %(filter)s, strategy => %(strategy)s) s
    WHERE q.n = %(query)s
    """


@dataclass(frozen=True)
class Point:
    """One search to run: a query, its filter as JSON and as SQL, and the rows that the filter keeps."""

    kind: str
    share: float
    query: int
    filter: dict[str, Any] | None
    condition: str
    keeps: Bools


@dataclass(frozen=True)
class Contender:
    """A way to search, on its own connection. `run` returns ids, nearest first; `pid` is its server process."""

    name: str
    pid: int | None
    ready: Callable[[int], None]  # called when k changes
    run: Callable[[Point, int], list[int]]


def points(
    conn: psycopg.Connection[Any], dataset: Dataset, share: float, kind: str, rng: np.random.Generator, queries: int
) -> Iterator[Point]:
    """Yield a point for each query. For kind 'random', a share of 1 means no filter."""
    width = int(share * SCALE)
    for n, query in enumerate(query_indexes(dataset, kind, queries)):
        condition: dict[str, Any] | None
        if kind == "random":
            condition = {"random": {"$lt": width}} if share < 1 else None
            keeps = dataset.random < width
        elif kind == "label":
            condition = {"labels": {"$contains": f"r{share:g}"}}
            keeps = dataset.random < share * SCALE
        elif kind == "far":
            condition = {f"far{n:02d}": {"$lt": width}}
            keeps = dataset.far[n] < width
        else:
            # Half of the windows surround the query's own position; the others are anywhere.
            middle = dataset.query_positions[query] - width / 2
            start = int(np.clip(middle, 0, SCALE - width)) if n % 2 else int(rng.uniform(0, SCALE - width))
            condition = {"position": {"$gte": start, "$lt": start + width}}
            keeps = (dataset.position >= start) & (dataset.position < start + width)
        row = conn.execute(
            "SELECT lookalike.filter_condition(%s)", (json.dumps(condition) if condition else None,)
        ).fetchone()
        text = str(row[0]) if row else ""
        yield Point(kind=kind, share=share, query=query, filter=condition, condition=text, keeps=keeps)


def query_indexes(dataset: Dataset, kind: str, queries: int) -> list[int]:
    """Return the indexes of the queries to run, spread over all; for kind 'far', those with an attribute."""
    if kind == "far":
        return data.far_query_indexes(len(dataset.queries))
    return [int(i) for i in np.linspace(0, len(dataset.queries) - 1, min(queries, len(dataset.queries)))]


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """Yield the URL of a server for databases: `url`, or by default an embedded server that ends with the block."""
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as folder:
        Path(folder).chmod(0o755)
        with embedded.running(Path(folder), settings=SERVER) as started:
            yield started.url


def prepare(url: str, dataset: Dataset, *, log: Callable[[str], None]) -> str:
    """Make a database with this data, unless the server has one from an earlier run; return its URL."""
    name = f"lookalike_bench_{len(dataset.vectors)}"
    target = make_conninfo(url, dbname=name)
    with psycopg.connect(url, autocommit=True) as admin:
        if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            with psycopg.connect(target) as conn:
                if conn.execute("SELECT to_regclass('lookalike.bench_ready')").fetchone() != (None,):
                    return target
            admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    schema.upgrade(target)
    with psycopg.connect(target) as conn:
        conn.execute("ALTER TABLE lookalike.images DISABLE TRIGGER USER")
        began = time.monotonic()
        conn.execute("SELECT lookalike.create_space('bench', 'bench', %s, '{}', 'bench')", (dataset.vectors.shape[1],))
        row = conn.execute("SELECT 'lookalike.' || table_name FROM lookalike.embedding_spaces").fetchone()
        table = str(row[0]) if row else ""
        data.load(conn, dataset, table=table)
        conn.execute("CREATE TABLE lookalike.bench_queries (n int PRIMARY KEY, embedding halfvec STORAGE PLAIN)")
        with conn.cursor() as cur, cur.copy("COPY lookalike.bench_queries FROM STDIN") as copy:
            for n, vector in enumerate(dataset.queries):
                copy.write_row((n, data.literal(vector)))
        log(f"{len(dataset.vectors):,} rows loaded in {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        conn.execute("SET LOCAL maintenance_work_mem = '4GB'")
        conn.execute(f"CREATE INDEX ON {table} USING hnsw (embedding halfvec_l2_ops)")
        log(f"HNSW index built in {time.monotonic() - began:.0f} s")
        conn.execute("CREATE TABLE lookalike.bench_ready ()")
    with psycopg.connect(target, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")
    return target


def contenders(url: str, stack: ExitStack) -> list[Contender]:
    """Return every contender, each on its own connection, which `stack` closes."""

    def connect(*settings: str) -> psycopg.Connection[Any]:
        conn = stack.enter_context(psycopg.connect(url, autocommit=True, prepare_threshold=None))
        conn.execute("LOAD 'vector'")
        for setting in (f"statement_timeout = {TIMEOUT_MS}", *settings):
            conn.execute(sql.SQL("SET ") + sql.SQL(setting))
        return conn

    def ours(name: str, strategy: str) -> Contender:
        conn = connect()

        def run(point: Point, k: int) -> list[int]:
            values = {
                "k": k,
                "filter": json.dumps(point.filter) if point.filter else None,
                "strategy": strategy,
                "query": point.query,
            }
            return [row[0] for row in conn.execute(OURS, values, prepare=True)]

        return Contender(name, conn.info.backend_pid, lambda k: None, run)

    def plain(name: str, statement: str, *settings: str, same_ef: bool = False) -> Contender:
        conn = connect(*settings)

        def ready(k: int) -> None:
            if same_ef:
                conn.execute("SELECT set_config('hnsw.ef_search', lookalike.search_ef(%s, 0.99)::text, false)", (k,))

        def run(point: Point, k: int) -> list[int]:
            text = statement.format(condition=point.condition, k=k, query=point.query)
            return [row[0] for row in conn.execute(sql.SQL(text), prepare=point.filter is None)]

        return Contender(name, conn.info.backend_pid, ready, run)

    return [
        ours("search", "auto"),
        ours("exact", "exact"),
        ours("index", "index"),
        plain("pgvector", PLAIN),
        plain("pgvector, same ef", PLAIN, same_ef=True),
        plain("pgvector, iterative", RELAXED, "hnsw.iterative_scan = relaxed_order", same_ef=True),
    ]


def vecs_contender(url: str, dataset: Dataset, stack: ExitStack) -> Contender | None:
    """Return vecs' own query on a copy of the data in vecs' layout, or None if vecs is not installed.

    vecs needs pgvector 0.3 for Python, so it needs its own environment: `pip install vecs` beside the base
    requirements.
    """
    try:
        import vecs  # type: ignore[import-not-found]
    except ImportError:
        return None
    parts = {name: quote(str(value), safe="") for name, value in conninfo_to_dict(url).items()}
    login = f"{parts.pop('user', '')}:{parts.pop('password', '')}"
    options = "&".join(f"{name}={value}" for name, value in parts.items() if name != "dbname")
    client = vecs.create_client(f"postgresql+psycopg2://{login}@/{parts['dbname']}?{options}")
    stack.callback(client.disconnect)
    collection = client.get_or_create_collection(name="bench", dimension=dataset.vectors.shape[1])
    if len(collection) < len(dataset.vectors):
        collection.upsert((str(i + 1), vector, data.attributes(dataset, i)) for i, vector in enumerate(dataset.vectors))
        collection.create_index(measure=vecs.IndexMeasure.l2_distance, method=vecs.IndexMethod.hnsw)

    def run(point: Point, k: int) -> list[int]:
        filters = point.filter or {}
        if len(filters.get("position", {})) > 1:  # vecs takes one operator per key
            filters = {"$and": [{"position": {name: value}} for name, value in filters["position"].items()]}
        found = collection.query(
            data=dataset.queries[point.query], limit=k, filters=filters, measure=vecs.IndexMeasure.l2_distance
        )
        return [int(row) for row in found]

    return Contender("vecs", None, lambda k: None, run)


def cpu_ms(pid: int | None) -> float:
    """Return the CPU milliseconds of a process, which other load hardly changes; 0 if unknown."""
    if pid is None:
        return 0.0
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6
    except OSError:
        return 0.0


def measure(contender: Contender, point: Point, k: int, distances: Floats) -> dict[str, Any]:
    """Run one search; return its time, its tie-aware recall against `distances`, and its number of rows."""
    cpu = cpu_ms(contender.pid)
    began = time.perf_counter()
    try:
        ids = contender.run(point, k)
    except psycopg.errors.QueryCanceled:
        ids = []
    elapsed = (time.perf_counter() - began) * 1000
    cpu = cpu_ms(contender.pid) - cpu
    kept = distances[point.keeps]
    expected = min(k, len(kept))
    limit = np.partition(kept, expected - 1)[expected - 1] + EPSILON if expected else 0.0
    rows = np.array(ids[:k], dtype=np.int64) - 1
    hits = int((point.keeps[rows] & (distances[rows] <= limit)).sum()) if len(rows) else 0
    return {
        "contender": contender.name,
        "ms": round(elapsed, 3),
        "cpu_ms": round(cpu, 3) if cpu else "",
        "recall": round(hits / expected, 4) if expected else 1.0,
        "returned": len(ids),
        "expected": expected,
    }


def sweep(url: str, dataset: Dataset, args: argparse.Namespace, log: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Yield a raw row for every point, k and contender; contenders take turns, in random order."""
    rng = np.random.default_rng(args.seed)
    asked = {query for kind in args.kinds for query in query_indexes(dataset, kind, args.queries)}
    distances = {q: np.linalg.norm(dataset.vectors - dataset.queries[q], axis=1).astype(np.float64) for q in asked}
    with ExitStack() as stack, psycopg.connect(url, autocommit=True) as conn:
        field = contenders(url, stack)
        if len(dataset.vectors) <= args.vecs_rows and (other := vecs_contender(url, dataset, stack)):
            field.append(other)
        for kind in args.kinds:
            for share in args.shares:
                for k in args.k:
                    began = time.monotonic()
                    todo = list(points(conn, dataset, share, kind, rng, args.queries))[:: args.every]
                    for contender in field:
                        contender.ready(k)
                        measure(contender, todo[-1], k, distances[todo[-1].query])  # warms up plans and caches
                    timeouts = dict.fromkeys((contender.name for contender in field), 0)
                    for n, point in enumerate(todo):
                        timed = n % args.others_every == 0
                        for turn in rng.permutation(len(field)) if timed else [0]:
                            contender = field[turn]
                            if timeouts[contender.name] < MOST_TIMEOUTS:
                                row = measure(contender, point, k, distances[point.query])
                                timeouts[contender.name] += row["ms"] >= TIMEOUT_MS
                                yield {
                                    "rows": len(dataset.vectors),
                                    "kind": kind,
                                    "share": share,
                                    "k": k,
                                    "query": point.query,
                                    "timed": int(timed),
                                    **row,
                                }
                    log(f"{len(dataset.vectors):,} rows, {kind}, {share:.2%}, k {k}: {time.monotonic() - began:.1f} s")


def main(argv: list[str] | None = None) -> None:
    """Run the sweep; write raw results to `<out>.csv` and conditions to `<out>.json`."""
    parser = argparse.ArgumentParser(prog="python -m bench.search.filters", description=__doc__)
    parser.add_argument(
        "--vectors", type=Path, help=".npy of float embeddings, shape (rows, dimensions) (default: synthetic)"
    )
    parser.add_argument("--dimensions", type=int, default=1280, help="dimensions of synthetic vectors")
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--k", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--queries", type=int, default=40, help="queries at a point; 20 for kind far")
    parser.add_argument("--every", type=int, default=1, help="use every n-th query only")
    parser.add_argument(
        "--others-every",
        type=int,
        default=1,
        help="run all contenders at every n-th query only; the others measure recall",
    )
    parser.add_argument("--vecs-rows", type=int, default=20_000, help="largest table to compare with vecs; 0: none")
    parser.add_argument("--database", help="server on which to make databases (default: an embedded server)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "filters", help="path of the results, without suffix")
    quick = {"rows": [2_000], "dimensions": 64, "shares": [1.0, 0.1, 0.001], "every": 5, "out": None}
    args = parse_options(parser, argv, quick=quick)
    with tempfile.TemporaryDirectory() as folder:
        _measure_all(args, args.out or Path(folder) / "filters")


def _measure_all(args: argparse.Namespace, out: Path) -> None:
    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    out.parent.mkdir(parents=True, exist_ok=True)
    with server(args.database) as url, out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for rows in args.rows:
            dataset = data.make(rows=rows, queries=200, file=args.vectors, dimensions=args.dimensions, seed=args.seed)
            target = prepare(url, dataset, log=log)
            for row in sweep(target, dataset, args, log):
                writer.writerow(row)
            file.flush()
        with psycopg.connect(target) as conn:
            conditions = data.conditions(conn, seed=args.seed)
    conditions |= {"vectors": args.vectors.name if args.vectors else "made", "timeout_ms": TIMEOUT_MS}
    out.with_suffix(".json").write_text(json.dumps(conditions, indent=2) + "\n")


if __name__ == "__main__":
    main()
