"""Compares index choices: `python -m bench.search.choices --vectors FILE`.

It builds each choice in its own database and searches all of them in turns, query by query, through lookalike.search.
The others are compared with the first choice. Recall is tie-aware, against numpy on the same rows.
"""

import argparse
import json
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg.conninfo import make_conninfo

from app import db
from app.db import embedded, schema
from app.index.resources import Resources
from app.index.spec import parse_spec
from app.index.switch import Switched, switch_index
from app.store import spaces
from bench.options import RESULTS, parse_options
from bench.search import data

SERVER = {"shared_buffers": "3GB", "max_wal_size": "4GB", "fsync": "off", "synchronous_commit": "off"}
CHOICES = (
    "hnsw",
    "exact",
    "ivfflat",
    "pca(128)+rerank(50)",
    "bits(512)+rerank(100)",
    "bits(512)+rerank(400)",
    "pca(64,lists=141,probes=20)+rerank(60)",
    "bits(512,lists=141,probes=20)+rerank(100)",
    "bits(1024,lists=141,probes=12)+rerank(50)",
    "bits(1024,lists=141,probes=25)+rerank(50)",
    "bits(1024,lists=141,probes=50)+rerank(100)",
)
EPSILON = 1e-3


@dataclass(frozen=True)
class Contender:
    """A choice in its own database, and a connection to search it."""

    text: str
    conn: db.Connection
    applied: Switched


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=Path, help=".npy of unit vectors (default: synthetic)")
    parser.add_argument("--dimensions", type=int, default=1280, help="dimensions of synthetic vectors")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--choices", nargs="*", default=list(CHOICES))
    parser.add_argument(
        "--insert", type=int, default=0, help="rows to insert one by one afterwards, to measure their cost"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "choices.json", help="file to write")
    few = ["hnsw", "exact", "bits(64)+rerank(100)"]
    quick = {"dimensions": 128, "rows": 600, "queries": 10, "rounds": 1, "choices": few, "out": None}
    options = parse_options(parser, quick=quick)
    given = data.unit(np.load(options.vectors).astype(np.float32)) if options.vectors else None
    rng = np.random.default_rng(options.seed)
    source = given if given is not None else data.made_vectors(options.rows + options.queries, options.dimensions, rng)
    source = source[: options.rows]
    held = np.linspace(0, len(source) - 1, options.queries).astype(int)
    rows, queries = np.delete(source, held, axis=0), source[held]
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as folder, ExitStack() as stack:
        Path(folder).chmod(0o755)
        started = stack.enter_context(embedded.running(Path(folder), settings=SERVER))
        made = [prepare(started.url, n, text, rows, stack, options.seed) for n, text in enumerate(options.choices)]
        found = compare(made, rows, queries, options.k, options.rounds)
        if options.insert:
            for one, record in zip(made, found, strict=True):
                record["insert_ms"] = insert_cost(one, rows[: options.insert])
        conditions = data.conditions(made[0].conn, seed=options.seed)
    result = {"conditions": conditions, "rows": len(rows), "queries": len(queries), "k": options.k, "choices": found}
    if options.out:
        options.out.write_text(json.dumps(result, indent=1, default=str) + "\n")
    print(table(found))


def prepare(url: str, n: int, text: str, rows: data.Vectors, stack: ExitStack, seed: int) -> Contender:
    """Store the rows in a new database and apply the choice to its space."""
    name = f"choices_{n}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    target = make_conninfo(url, dbname=name)
    schema.upgrade(target)
    conn = stack.enter_context(db.connect(target, autocommit=True))
    conn.execute(
        "SELECT lookalike.create_space('bench', 'none', %s, '{}', 'f', index_options => '{\"kind\": \"exact\"}')",
        (rows.shape[1],),
    )
    conn.execute("ALTER TABLE lookalike.images DISABLE TRIGGER USER")
    conn.execute(
        "INSERT INTO lookalike.images (id, uri) OVERRIDING SYSTEM VALUE SELECT n, 'b:' || n"
        " FROM generate_series(1, %s) n",
        (len(rows),),
    )
    data.load_vectors(conn, rows, table="lookalike.embeddings_1")
    conn.execute("VACUUM ANALYZE")
    applied = switch_index(conn, spaces.active(conn), parse_spec(text), resources=Resources(memory=2**30), seed=seed)
    print(f"{text}: {applied.state.index_bytes / 1e6:.2f} MB, {applied.build_seconds:.1f} s", flush=True)
    return Contender(text, stack.enter_context(db.connect(target, autocommit=True)), applied)


def compare(
    made: list[Contender], rows: data.Vectors, queries: data.Vectors, k: int, rounds: int
) -> list[dict[str, Any]]:
    """Search every query with every contender in turn; return times and recall of each."""
    times = np.empty((len(made), rounds, len(queries)))
    recalls = np.empty((len(made), len(queries)))
    truths = [np.linalg.norm(rows - query, axis=1) for query in queries]
    bounds = [np.partition(true, k - 1)[k - 1] + EPSILON for true in truths]
    for round_ in range(-1, rounds):  # the first one warms up
        for q, query in enumerate(queries):
            for c in np.roll(np.arange(len(made)), q):
                began = time.perf_counter()
                found = (
                    made[c]
                    .conn.execute(
                        "SELECT s.id, s.distance FROM lookalike.search(%s, %s) s", (HalfVector(query), k), prepare=True
                    )
                    .fetchall()
                )
                if round_ >= 0:
                    times[c, round_, q] = (time.perf_counter() - began) * 1000
                ids: NDArray[np.int64] = np.array([row[0] for row in found], dtype=np.int64) - 1
                recalls[c, q] = (truths[q][ids] <= bounds[q]).sum() / k
    records = []
    for c, one in enumerate(made):
        state = one.applied.state
        records.append(
            {
                "choice": one.text,
                "index_bytes": state.index_bytes,
                "candidates_bytes": state.candidates_bytes,
                "index_share": state.index_bytes / max(made[0].applied.state.index_bytes, 1),
                "recall": float(recalls[c].mean()),
                "p50_ms": float(np.percentile(times[c], 50)),
                "p95_ms": float(np.percentile(times[c], 95)),
                "p50_ratio": float(np.percentile(times[c], 50) / np.percentile(times[0], 50)),
                **{name: value for name, value in asdict(one.applied).items() if name.endswith("seconds")},
                "ms": times[c].round(3).tolist(),
            }
        )
    return records


def insert_cost(one: Contender, rows: data.Vectors) -> float:
    """Return the milliseconds to write an embedding again, one statement each, in a transaction that is rolled back."""
    with one.conn.transaction(force_rollback=True):
        began = time.perf_counter()
        for n, row in enumerate(rows):
            one.conn.execute(
                "UPDATE lookalike.embeddings_1 SET embedding = %s WHERE image_id = %s", (HalfVector(row), n + 1)
            )
        return (time.perf_counter() - began) * 1000 / len(rows)


def table(found: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| choice | index MB | 1/ | candidates MB | build s | recall | p50 ms | ratio | p95 ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        seconds = one["fit_seconds"] + one["fill_seconds"] + one["build_seconds"]
        share = 1 / one["index_share"] if one["index_share"] else 0
        lines.append(
            f"| `{one['choice']}` | {one['index_bytes'] / 1e6:.2f} | {share:.1f} | {one['candidates_bytes'] / 1e6:.2f} "
            f"| {seconds:.1f} | {one['recall']:.4f} | {one['p50_ms']:.2f} | {one['p50_ratio']:.2f} "
            f"| {one['p95_ms']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
