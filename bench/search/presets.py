"""Measures the index of each preset and the cost of changing prices: `python -m bench.search.presets --vectors FILE`.

The lab measures the choices of all presets on one sample (see bench/README.md). Then the prices of a fifth of the
images change, with the indexes of the shop preset. It writes bench/results/presets.json.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from app import db
from app.store import spaces
from app.tuning import presets, results, run
from app.tuning.records import Request
from bench.options import RESULTS, parse_options
from bench.scratch import scratch
from bench.search import data
from bench.search.tune import load


def main() -> None:
    """Run the bench, print a line per preset, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=Path, help=".npy of unit vectors (default: synthetic)")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--results", type=Path, default=RESULTS / "presets.json", help="file to write")
    options = parse_options(parser, quick={"rows": 600, "results": None})
    rng = np.random.default_rng(1)
    vectors = data.unit(np.load(options.vectors).astype(np.float32)) if options.vectors else None
    if vectors is None:
        vectors = data.made_vectors(options.rows, 256, rng)
    with scratch(None) as url, db.connect(url, autocommit=True) as conn:
        load(conn, vectors[: options.rows])
        request = Request(choices=tuple(one.choice for one in presets.PRESETS), rounds=3, seconds=1.0, workers=1)
        made = run.start(conn, spaces.active(conn), request)
        measured = {one.choice: one for one in run.resume(url, made)}
        with tempfile.TemporaryDirectory() as home:
            prices = _change_prices(conn, Path(home))
        conditions = results.get(conn, made.id).conditions
    shown = {}
    for preset in presets.PRESETS:
        one = asdict(measured[preset.choice])
        for raw in ("query_ms", "query_recalls", "measured_at"):
            del one[raw]
        shown[preset.name] = one
        found = measured[preset.choice]
        print(
            f"{preset.name}: recall {found.recall:.4f}, p50 {found.p50_ms:.2f} ms, p95 {found.p95_ms:.2f} ms, "
            f"{found.best_qps:,.0f} queries/s, row {found.insert_ms:.2f} ms, build {found.build_seconds:.1f} s, "
            f"{found.bytes_per_image:,.0f} bytes/image"
        )
    print(f"prices of {prices['rows']:,} of {options.rows:,} images changed in {prices['seconds']:.2f} s")
    text = json.dumps({"conditions": conditions, "presets": shown, "price_changes": prices}, indent=1, default=str)
    if options.results:
        options.results.write_text(text + "\n", encoding="utf-8")


def _change_prices(conn: db.Connection, home: Path) -> dict[str, float]:
    """Change a fifth of the prices in one statement, with the tables and indexes of the shop preset."""
    conn.execute("UPDATE lookalike.images SET attributes = jsonb_build_object('price', id % 1000)")
    presets.apply(conn, presets.get("shop"), spaces.active(conn), home)
    conn.execute("VACUUM (ANALYZE) lookalike.images")
    began = time.perf_counter()
    done = conn.execute(
        "UPDATE lookalike.images SET attributes = jsonb_build_object('price', id % 777) WHERE id % 5 = 0"
    )
    return {"rows": done.rowcount, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    main()
