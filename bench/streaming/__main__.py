"""Inserts at a fixed rate while searches run: `python -m bench.streaming` (VectorDBBench's streaming shape).

SQL inserts images every tenth of a second. Processes in the place of the worker claim their jobs and write embeddings
from a file with the worker's own functions, so everything but the encoder is real. The index exists from the first row
on. At 10, 25, 50, 75, 90 and 100 % of the rows, queries run in one snapshot, which also lists its rows: the ground
truth of that stage. `--churn` is another experiment, see bench.streaming.churn.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from psycopg.conninfo import make_conninfo

from app.db import embedded, schema
from bench.options import RESULTS, parse_options
from bench.search import data
from bench.streaming import churn, report, stream


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """Yield a superuser's URL: `url`, or by default that of an embedded server, which commits durably."""
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as home:
        Path(home).chmod(0o755)
        with embedded.running(Path(home)) as started:
            yield started.url


def _fresh(url: str, name: str) -> str:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name}")
    return make_conninfo(url, dbname=name)


def main() -> None:
    """Run each rate, or the churn; write raw results, the plot and the README's table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=Path, help=".npy of embeddings (default: synthetic)")
    parser.add_argument("--rows", type=int, default=19_500)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--dimensions", type=int, default=1280, help="dimensions of synthetic vectors")
    parser.add_argument("--rates", type=int, nargs="+", default=[200, 500])
    parser.add_argument("--writers", type=int, default=2, help="processes that write embeddings")
    parser.add_argument("--order", choices=("file", "random"), default="random", help="order of the rows")
    parser.add_argument(
        "--churn", action="store_true", help="measure recall before and after changes, with and without maintain"
    )
    parser.add_argument("--url", help="superuser's URL of your own server (default: an embedded server)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS / "streaming", help="path to write, without suffix")
    parser.add_argument("--readme", type=Path, help="file in which to replace the tables")
    quick = {"rows": 2500, "queries": 10, "dimensions": 32, "rates": [400], "results": None}
    options = parse_options(parser, quick=quick)
    made = data.make(
        rows=options.rows,
        queries=options.queries,
        file=options.vectors,
        dimensions=options.dimensions,
        seed=options.seed,
    )
    order = np.random.default_rng(options.seed).permutation(len(made.vectors))
    vectors = made.vectors if options.order == "file" else made.vectors[order]
    with server(options.url) as url, tempfile.TemporaryDirectory() as folder:
        path = options.results or Path(folder) / "streaming"
        name = path.with_name("streaming-churn") if options.churn else path
        result: dict[str, Any] = {}
        with suppress(FileNotFoundError):
            result = json.loads(name.with_suffix(".json").read_text())
        probe = _fresh(url, "streaming_probe")
        schema.upgrade(probe)
        with psycopg.connect(probe) as conn:
            about = {
                **data.conditions(conn, seed=options.seed),
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        about |= {"rows": len(vectors), "dimensions": vectors.shape[1], "queries": len(made.queries)}
        about |= {"vectors": "a file's" if options.vectors else "made"}
        if options.churn:
            target = _fresh(url, "streaming_churn")
            schema.upgrade(target)
            result = churn.run(url, target, vectors, made.queries, make_space=stream.make_space, seed=options.seed)
            result["conditions"] = about
        else:
            for rate in options.rates:
                print(f"{rate} rows/s", flush=True)
                got = stream.run(
                    _fresh(url, f"streaming_{rate}"),
                    vectors,
                    made.queries,
                    rate=rate,
                    writers=options.writers,
                    folder=Path(folder),
                )
                # Each run has its own conditions, because one rate may be measured again alone.
                result[f"{rate}, {options.order} order"] = {"conditions": about, **got}
        name.parent.mkdir(parents=True, exist_ok=True)
        name.with_suffix(".json").write_text(json.dumps(result) + "\n")
        print("\n".join(report.lines(result)))
        report.plot(result, name.with_suffix(".png"))
        if options.readme:
            report.into_readme(options.readme, name)


if __name__ == "__main__":
    main()
