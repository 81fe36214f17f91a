"""What the triggers cost a bulk load: COPY of images with and without them, interleaved, as a ratio.

`python -m bench.api.copy_triggers [--rows 100000] [--rounds 5]`, on a scratch embedded server or, with --url, on an
empty database of yours. Writes `bench/results/copy.json`.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from app import db
from app.db import embedded, schema

RESULTS = Path(__file__).parents[1] / "results"


@contextmanager
def scratch(url: str | None) -> Iterator[str]:
    """Yield the URL of a migrated database."""
    if url:
        schema.upgrade(url)
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as home:
        Path(home).chmod(0o755)
        with embedded.running(Path(home)) as server:
            schema.upgrade(server.url)
            yield server.url


def copy(conn: db.Connection, rows: int, *, triggers: bool) -> float:
    """COPY so many images into the empty table; return seconds, the commit included."""
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
    """Run and print the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--url")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    with scratch(options.url) as url, db.connect(url, autocommit=True) as conn:
        conn.execute("SELECT lookalike.create_space('bench', 'none', 8, '{}', 'none')")
        for _ in range(options.rounds):
            for name, triggers in (("with", True), ("without", False)):
                seconds[name].append(copy(conn, options.rows, triggers=triggers))
        version = conn.info.server_version
    ratios = [a / b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "copy.json").write_text(
        json.dumps(
            {
                "rows": options.rows,
                "seconds": seconds,
                "ratios": ratios,
                "server": version,
                "machine": f"{platform.machine()}, {platform.processor() or 'unknown processor'}",
                "date": datetime.now(UTC).date().isoformat(),
            },
            indent=1,
        )
        + "\n"
    )
    print(f"COPY of {options.rows} images: with triggers {statistics.median(seconds['with']):.2f} s,", end=" ")
    print(f"without {statistics.median(seconds['without']):.2f} s; ratio {statistics.median(ratios):.2f}", end=" ")
    print(f"({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
