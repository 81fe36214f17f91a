"""Measures the memory of pgvector's graph per row and the disk space of a fresh index, beside Lookalike's estimate.

`python -m bench.search.index_memory` runs on a scratch embedded server, for several dimensions and values of m. Each
graph is built serially and with two workers, in a maintenance_work_mem that it outgrows halfway. pgvector then reports
the number of rows, and the build is cancelled. With --disk another build with enough memory gives the size on disk. It
writes `bench/results/index_memory.json`.
"""

import argparse
import json
import platform
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from app import db
from app.index.kinds.hnsw import index_bytes, row_bytes
from bench.options import RESULTS, parse_options
from bench.scratch import scratch

SHAPES = ((1280, 16), (1280, 32), (384, 16), (2048, 16), (128, 16), (128, 8))
_RESERVED = 4 * 2**20  # a parallel build reserves this for other things
_BLOCK = 2**20  # a serial build allocates memory in blocks; a block counts as soon as it is begun


def fill(conn: db.Connection, rows: int, dimensions: int) -> None:
    """Make a table of random unit vectors, stored like embeddings."""
    conn.execute("DROP TABLE IF EXISTS bench_vectors")
    conn.execute(f"CREATE UNLOGGED TABLE bench_vectors (id int, embedding halfvec({dimensions}))")
    conn.execute("ALTER TABLE bench_vectors ALTER embedding SET STORAGE PLAIN, SET (parallel_workers = 2)")
    conn.execute(
        "INSERT INTO bench_vectors SELECT n, l2_normalize((SELECT array_agg(random() - 0.5)::vector"
        " FROM generate_series(1, %s) WHERE n > 0))::halfvec FROM generate_series(1, %s) n",
        (dimensions, rows),
    )
    conn.execute("ANALYZE bench_vectors")


def create(m: int) -> str:
    """Return the statement that builds the index; its memory does not depend on ef_construction."""
    return (
        "CREATE INDEX ON bench_vectors USING hnsw (embedding halfvec_l2_ops)"
        f" WITH (m = {m}, ef_construction = {max(2 * m, 16)})"
    )


def outgrown_after(conn: db.Connection, m: int, memory: int, workers: int) -> int:
    """Build with too little memory; return the number of rows after which the graph no longer fits."""
    rows: list[int] = []

    def record(notice: psycopg.errors.Diagnostic) -> None:
        if found := re.search(r"no longer fits .* after (\d+) tuples", notice.message_primary or ""):
            rows.append(int(found[1]))
            conn.cancel_safe()

    conn.execute(f"SET maintenance_work_mem = '{memory // 1024}kB'; SET max_parallel_maintenance_workers = {workers}")
    conn.add_notice_handler(record)
    try:
        conn.execute(create(m))
        conn.execute("DROP INDEX bench_vectors_embedding_idx")
    except psycopg.errors.QueryCanceled:
        pass
    finally:
        conn.remove_notice_handler(record)
    return rows[0]


def main() -> None:
    """Run the bench and print a line per shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="measure only the first N shapes")
    parser.add_argument("--disk", action="store_true", help="also build the whole index, to measure its size")
    parser.add_argument("--results", type=Path, default=RESULTS / "index_memory.json", help="file to write")
    options = parse_options(parser, quick={"rows": 6000, "shapes": 1, "results": None})
    results = []
    with scratch(None) as url, db.connect(url, autocommit=True) as conn:
        for dimensions, m in SHAPES[: options.shapes]:
            fill(conn, options.rows, dimensions)
            estimated = row_bytes(dimensions, m)
            memory = max(estimated * options.rows // 2, 8 * 2**20)
            began = time.perf_counter()
            serial, parallel = (outgrown_after(conn, m, memory, workers) for workers in (0, 2))
            one = {
                "dimensions": dimensions,
                "m": m,
                "memory": memory,
                "serial_after": serial,
                "parallel_after": parallel,
                "estimated_row": estimated,
                "serial_row": round(memory // _BLOCK * _BLOCK / serial, 1),
                "parallel_row": round((memory - _RESERVED) / parallel, 1),
                "seconds": round(time.perf_counter() - began, 1),
            }
            if options.disk:
                conn.execute("SET maintenance_work_mem = '1GB'; SET max_parallel_maintenance_workers = 2")
                conn.execute(create(m))
                row = conn.execute("SELECT pg_relation_size('bench_vectors_embedding_idx')").fetchone()
                one["index"] = int(str(row[0])) if row else 0
                one["estimated_index"] = index_bytes(options.rows, dimensions, m)
            print(one, flush=True)
            results.append(one)
        version = conn.execute(
            "SELECT split_part(version(), ' ', 2), extversion FROM pg_extension WHERE extname = 'vector'"
        ).fetchone()
    record = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "postgresql, pgvector": version,
        "rows": options.rows,
        "shapes": results,
    }
    if options.results:
        options.results.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
