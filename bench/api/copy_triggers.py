"""The cost of the triggers in a bulk load: COPY images with and without triggers, interleaved, as a ratio.

`python -m bench.api.copy_triggers` uses a scratch embedded server or, with --url, your own empty database. It writes
`bench/results/copy.json`.
"""

import argparse
import json
import platform
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

from app import db
from bench.options import RESULTS, parse_options
from bench.scratch import scratch


def copy(conn: db.Connection, rows: int, *, triggers: bool) -> float:
    """COPY `rows` images into the empty table; return the seconds, with the commit."""
    conn.execute("TRUNCATE lookalike.images CASCADE")
    conn.execute(f"ALTER TABLE lookalike.images {'ENABLE' if triggers else 'DISABLE'} TRIGGER USER")
    conn.execute("CHECKPOINT")
    began = time.perf_counter()
    with conn.cursor() as cursor, cursor.copy("COPY lookalike.images (uri, caption, attributes) FROM STDIN") as lines:
        for number in range(rows):
            attributes = f'{{"category": "c{number % 50}", "price": {number % 997}}}'
            lines.write_row((f"s3://shop/pictures/{number:08}.jpg", f"product {number}", attributes))
    return time.perf_counter() - began


def main() -> None:
    """Run the bench and print the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--url", help="your own empty database (default: a scratch embedded server)")
    parser.add_argument("--results", type=Path, default=RESULTS / "copy.json", help="file to write")
    options = parse_options(parser, quick={"rows": 500, "rounds": 1, "results": None})
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    with scratch(options.url) as url, db.connect(url, autocommit=True) as conn:
        conn.execute("SELECT lookalike.create_space('bench', 'none', 8, '{}', 'none')")
        for _ in range(options.rounds):
            for name, triggers in (("with", True), ("without", False)):
                seconds[name].append(copy(conn, options.rows, triggers=triggers))
        version = conn.info.server_version
    ratios = [a / b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
    record = {
        "rows": options.rows,
        "seconds": seconds,
        "ratios": ratios,
        "server": version,
        "machine": f"{platform.machine()}, {platform.processor() or 'unknown processor'}",
        "date": datetime.now(UTC).date().isoformat(),
    }
    if options.results:
        options.results.parent.mkdir(parents=True, exist_ok=True)
        options.results.write_text(json.dumps(record, indent=1) + "\n")
    print(f"COPY of {options.rows} images: with triggers {statistics.median(seconds['with']):.2f} s,", end=" ")
    print(f"without {statistics.median(seconds['without']):.2f} s; ratio {statistics.median(ratios):.2f}", end=" ")
    print(f"({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
