"""`python -m bench`: start every bench with `--quick` and check that it ends well. No number is judged.

bench.chaos and bench.soak are left out, because `make chaos-short` and `make soak-short` run them.
"""

import argparse
import os
import signal
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
_TIMEOUT_SECONDS = 600.0


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
    process = subprocess.Popen(
        [sys.executable, "-m", *bench.split(), "--quick"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        output = _end(process)
    ended = "ok" if process.returncode == 0 else f"FAILED with status {process.returncode}"
    print(f"{bench}: {ended} in {time.monotonic() - began:.0f} s", flush=True)
    if process.returncode:
        print(output[-3000:], flush=True)
    return process.returncode == 0


def _end(process: "subprocess.Popen[str]") -> str:
    """End a bench like Ctrl-C, so that it ends its server and workers; kill it if it does not end."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return output


if __name__ == "__main__":
    sys.exit(main())
