"""`python -m bench`: start every bench with `--quick` and check that it ends well. No number is judged.

bench.chaos and bench.soak are left out, because `make chaos-short` and `make soak-short` run them.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

# The slow ones first, so that none runs alone at the end.
BENCHES = (
    "bench.freshness",
    "bench.search.filters",
    "bench.search.recall_monitor",
    "bench.embedding.worker",
    "bench.search.tune",
    "bench.search.presets",
    "bench.streaming",
    "bench.streaming --churn",
    "bench.streaming.replay",
    "bench.api.http_load",
    "bench.embedding.worker --memory",
    "bench.embedding.reference",
    "bench.search.choices",
    "bench.search.million",
    "bench.search.index_memory",
    "bench.embedding.reduced",
    "bench.api.copy_triggers",
)
_TIMEOUT_SECONDS = 300.0


def main() -> int:
    """Run the benches; return 0 if all end well, else 1."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="run only benches whose name contains TEXT")
    parser.add_argument("--jobs", type=int, default=2, help="benches to run at a time")
    options = parser.parse_args()
    chosen = [bench for bench in BENCHES if options.only in bench]
    with ThreadPoolExecutor(options.jobs) as pool:
        return 0 if all(list(pool.map(_run, chosen))) else 1


def _run(bench: str) -> bool:
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", *bench.split(), "--quick"],
            env={**os.environ, "MPLBACKEND": "Agg"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"{bench}: no end after {_TIMEOUT_SECONDS:.0f} s", flush=True)
        return False
    print(f"{bench}: {'ok' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - began:.0f} s", flush=True)
    if done.returncode:
        print(done.stdout[-3000:], flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
