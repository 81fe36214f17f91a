"""Index choices at a million rows: `python -m bench.search.million load|build|measure --home DIR`, step by step.

Rows are mixtures of pairs of real vectors (`--vectors FILE`, else synthetic). `load` streams them into the database by
COPY and finds the exact neighbours of the queries on the way. `build` applies a choice like `lookalike index choose`
and reports its cost. `measure` searches with the current choice.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg.conninfo import make_conninfo

from app import db
from app.db import embedded, schema, vectors
from app.index.resources import Resources
from app.index.spec import parse_spec
from app.index.switch import index_state, switch_index
from app.store import spaces
from bench.options import RESULTS, parse_options
from bench.search import data

STEPS = ("load", "build", "measure")
DATABASE = "lookalike_million"
SERVER = {"shared_buffers": "5GB", "max_wal_size": "16GB", "fsync": "off", "synchronous_commit": "off"}
BATCH = 10_000
MOST_K = 100
EPSILON = 1e-3


def main() -> None:
    """Run one step; with `--quick`, load, build and measure on a few rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", nargs="?", choices=STEPS, help="step to run; not needed with --quick")
    parser.add_argument("--home", type=Path, help="folder that keeps the server's data (15 GB) between steps")
    parser.add_argument("--vectors", type=Path, help=".npy of unit vectors to mix (default: synthetic)")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--choice", default="hnsw", help="choice to build")
    parser.add_argument(
        "--depths", type=int, nargs="*", default=[0], help="values of ef_search to measure; 0: the default"
    )
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--memory", default="4096", help="maintenance_work_mem of a build in MB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "million.json", help="file to append to")
    options = parse_options(parser, quick={"rows": 2000, "queries": 10, "memory": "256", "out": None})
    if options.quick:
        with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as home, server(Path(home)) as url:
            for step in STEPS:
                run(step, url, options)
    elif options.step and options.home:
        with server(options.home) as url:
            run(options.step, url, options)
    else:
        parser.error("give a step and --home, or --quick")


def run(step: str, url: str, options: argparse.Namespace) -> None:
    """Run one step, print its result and append it to `options.out`."""
    found = {"load": load, "build": build, "measure": measure}[step](url, options)
    with psycopg.connect(url) as conn:
        conditions = data.conditions(conn, seed=options.seed)
    record = {"step": step, "rows": options.rows, **found, "conditions": conditions}
    if options.out:
        kept = json.loads(options.out.read_text()) if options.out.exists() else []
        options.out.write_text(json.dumps([*kept, record], indent=1, default=str) + "\n")
    print(json.dumps(found, indent=1, default=str))


@contextmanager
def server(home: Path) -> Iterator[str]:
    """Run a server that keeps its data in `home`; yield the URL of the database."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    with embedded.running(home, settings=SERVER) as started:
        with psycopg.connect(started.url, autocommit=True) as admin:
            if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                admin.execute(f"CREATE DATABASE {DATABASE}")
        yield make_conninfo(started.url, dbname=DATABASE)


def mixtures(source: data.Vectors, rows: int, rng: np.random.Generator) -> data.Vectors:
    """Return unit vectors, each a mixture of two of the source, closer to the first."""
    first, second = rng.integers(0, len(source), (2, rows))
    share = rng.uniform(0.5, 1, (rows, 1)).astype(np.float32)
    return data.unit(share * source[first] + (1 - share) * source[second])


def load(url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Make and store the rows and the queries; return the seconds."""
    rng = np.random.default_rng(options.seed)
    source = (
        data.unit(np.load(options.vectors).astype(np.float32))
        if options.vectors
        else data.made_vectors(20_000, 1280, rng)
    )
    queries = mixtures(source, options.queries, rng)
    nearest = np.full((len(queries), MOST_K), -np.inf, dtype=np.float32)  # inner products, unordered
    schema.upgrade(url)
    began = time.monotonic()
    with db.connect(url, autocommit=True) as conn:
        conn.execute(
            "SELECT lookalike.create_space('million', 'none', %s, '{}', 'f', index_options => '{\"kind\": \"exact\"}')",
            (source.shape[1],),
        )
        table = f"lookalike.{spaces.active(conn).table_name}"
        conn.execute("ALTER TABLE lookalike.images DISABLE TRIGGER USER")
        conn.execute(
            "INSERT INTO lookalike.images (id, uri) OVERRIDING SYSTEM VALUE SELECT n, 'bench:' || n"
            " FROM generate_series(1, %s) n",
            (options.rows,),
        )
        with (
            conn.cursor() as cursor,
            cursor.copy(f"COPY {table} (image_id, embedding) FROM STDIN (FORMAT binary)") as copy,
        ):
            copy.write(vectors.HEAD)
            for start in range(0, options.rows, BATCH):
                part = mixtures(source, min(BATCH, options.rows - start), rng)
                copy.write(vectors.pack_rows(np.arange(start + 1, start + len(part) + 1), part))
                seen = np.concatenate([nearest, queries @ part.T], axis=1)
                nearest = np.partition(seen, seen.shape[1] - MOST_K, axis=1)[:, -MOST_K:]
            copy.write(vectors.END)
        conn.execute(
            "CREATE TABLE public.queries (n int PRIMARY KEY, embedding halfvec STORAGE PLAIN, distances float8[])"
        )
        for n, query in enumerate(queries):
            distances = np.sqrt(np.maximum(2 - 2 * np.sort(nearest[n])[::-1].astype(float), 0))
            conn.execute("INSERT INTO public.queries VALUES (%s, %s, %s)", (n, HalfVector(query), distances.tolist()))
        conn.execute("VACUUM ANALYZE")
    return {"seconds": time.monotonic() - began}


def build(url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Apply the choice to the space; return seconds and sizes."""
    with db.connect(url, autocommit=True) as conn:
        done = switch_index(
            conn,
            spaces.active(conn),
            parse_spec(options.choice),
            resources=Resources(memory=int(options.memory) * 2**20),
            seed=options.seed,
            report=lambda text: print(text, flush=True),
        )
    return {"choice": options.choice, **asdict(done)}


def measure(url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Search all queries at each depth in turn; return recall and milliseconds."""
    with db.connect(url, autocommit=True) as conn:
        asked = conn.execute("SELECT embedding, distances[%s] FROM public.queries ORDER BY n", (options.k,)).fetchall()
        state = index_state(conn, spaces.active(conn))
        for embedding, _ in asked:  # warm up
            conn.execute("SELECT FROM lookalike.search(%s, 100)", (embedding,))
        measured = [_measured(conn, asked, options.k, depth or None) for depth in options.depths]
    return {"choice": state.choice, "index_bytes": state.index_bytes, "k": options.k, "measured": measured}


def _measured(
    conn: db.Connection, asked: list[tuple[object, ...]], k: int, depth: int | None
) -> dict[str, float | int | None]:
    times, recalls = [], []
    for embedding, farthest in asked:
        began = time.perf_counter()
        found = conn.execute(
            "SELECT s.distance FROM lookalike.search(%s, %s, ef_search => %s) s", (embedding, k, depth), prepare=True
        ).fetchall()
        times.append((time.perf_counter() - began) * 1000)
        distances: NDArray[np.float64] = np.array([row[0] for row in found], dtype=np.float64)
        recalls.append(float((distances <= float(str(farthest)) + EPSILON).sum()) / k)
    return {
        "ef_search": depth,
        "recall": float(np.mean(recalls)),
        "p50_ms": float(np.percentile(times, 50)),
        "p95_ms": float(np.percentile(times, 95)),
    }


if __name__ == "__main__":
    main()
