"""Start what a user runs: the demo gallery embedded by a real worker, a live worker, and the API."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app import db
from app.demo import tour
from app.ingest.find import find_images
from app.ingest.register import register_images

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Running:
    """A database with a searchable gallery and a live worker, and the API's address."""

    url: str
    api: str


def environment(url: str, **more: str) -> dict[str, str]:
    """Return the environment for a child process that uses the database at `url`."""
    return {**os.environ, "LOOKALIKE_DATABASE_URL": url, "PYTHONPATH": str(ROOT), **more}


def embed_gallery(url: str, *, images: int) -> None:
    """Register the first images of the demo gallery, and run a worker until the queue is empty."""
    found = find_images([], manifest=tour.MANIFEST)
    with db.connect(url, autocommit=True) as conn:
        for _ in register_images(conn, found.candidates[:images], max_bytes=2**26, max_pixels=10**8):
            pass
    subprocess.run([sys.executable, "-m", "workers", "--drain"], env=environment(url), check=True, timeout=300)


@contextmanager
def live_worker(url: str) -> Iterator[None]:
    """Run a worker that is alive throughout the block."""
    process = subprocess.Popen([sys.executable, "-m", "workers"], env=environment(url))
    try:
        with db.connect(url, autocommit=True) as conn:
            deadline = time.monotonic() + 120
            while conn.execute("SELECT count(*) FROM lookalike.worker_status WHERE alive").fetchone() == (0,):
                assert process.poll() is None, f"the worker ended with status {process.returncode}"
                assert time.monotonic() < deadline, "no worker within 120 s"
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def live_api(url: str) -> Iterator[str]:
    """Run the API on a free loopback port; yield its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve"],
        env=environment(url, LOOKALIKE_PORT="0", LOOKALIKE_API_WORKERS="1"),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines: list[str] = []
    address = None
    for line in process.stderr:
        lines.append(line)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found:
            address = found[0]
            break
    assert address, "".join(lines)
    drain = threading.Thread(target=process.stderr.read, daemon=True)
    drain.start()
    try:
        yield address
    finally:
        process.terminate()
        process.wait(60)
        drain.join(10)
        process.stderr.close()
