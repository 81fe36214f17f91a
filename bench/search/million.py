"""Index choices at a million rows: `python -m bench.search.million load|build|measure --home DIR`, one step after the other.

Rows are mixtures of pairs of real vectors (`--vectors FILE`, else made), streamed into the database by COPY; the exact
neighbours of the queries are found while they pass. `build` gives the space a choice as `lookalike index choose` does,
and says what that took; `measure` searches by what is there.
"""

import argparse
import json
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
from bench.search import data

DATABASE = "lookalike_million"
SERVER = {"shared_buffers": "5GB", "max_wal_size": "16GB", "fsync": "off", "synchronous_commit": "off"}
BATCH = 10_000
MOST_K = 100
EPSILON = 1e-3


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("load", "build", "measure"))
    parser.add_argument("--home", type=Path, required=True, help="Keeps the server's data, 15 GB, from step to step.")
    parser.add_argument("--vectors", type=Path, help="Unit vectors to mix, .npy; else made.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--choice", default="hnsw", help="To build.")
    parser.add_argument("--depths", type=int, nargs="*", default=[0], help="ef_search to measure; 0: left out.")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--memory", default="4096", help="maintenance_work_mem of a build, MB.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench/results/million.json"))
    options = parser.parse_args()
    with server(options.home) as url:
        step = {"load": load, "build": build, "measure": measure}[options.step]
        found = step(url, options)
        with psycopg.connect(url) as conn:
            conditions = data.conditions(conn, seed=options.seed)
    record = {"step": options.step, "rows": options.rows, **found, "conditions": conditions}
    kept = json.loads(options.out.read_text()) if options.out.exists() else []
    options.out.write_text(json.dumps([*kept, record], indent=1, default=str) + "\n")
    print(json.dumps(found, indent=1, default=str))


@contextmanager
def server(home: Path) -> Iterator[str]:
    """Yield the URL of the database, on a server that runs meanwhile and keeps its data in `home`."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    with embedded.running(home, settings=SERVER) as started:
        with psycopg.connect(started.url, autocommit=True) as admin:
            if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                admin.execute(f"CREATE DATABASE {DATABASE}")
        yield make_conninfo(started.url, dbname=DATABASE)


def mixtures(source: data.Vectors, rows: int, rng: np.random.Generator) -> data.Vectors:
    """Return unit vectors, each between two of the source's, nearer to the first of them."""
    first, second = rng.integers(0, len(source), (2, rows))
    share = rng.uniform(0.5, 1, (rows, 1)).astype(np.float32)
    return data.unit(share * source[first] + (1 - share) * source[second])


def load(url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Make the rows and the queries, and store them; return how long that took."""
    rng = np.random.default_rng(options.seed)
    source = (
        data.unit(np.load(options.vectors).astype(np.float32))
        if options.vectors
        else data.made_vectors(20_000, 1280, rng)
    )
    queries = mixtures(source, options.queries, rng)
    nearest = np.full((len(queries), MOST_K), -np.inf, dtype=np.float32)  # inner products, in no order
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
    """Give the space the choice; return seconds and sizes."""
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
    """Search by all queries, at each depth in turn; return recall and milliseconds."""
    with db.connect(url, autocommit=True) as conn:
        asked = conn.execute("SELECT embedding, distances[%s] FROM public.queries ORDER BY n", (options.k,)).fetchall()
        state = index_state(conn, spaces.active(conn))
        for embedding, _ in asked:  # warm
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
