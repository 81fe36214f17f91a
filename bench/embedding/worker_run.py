"""Runs a real worker on a scratch server and measures it, for `bench.embedding.worker`."""

import argparse
import os
import platform
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import PIL
import timm
import torch

from app import db
from app.config import Settings
from app.db import embedded, schema
from app.store import spaces
from workers.device import hardware_of
from workers.encoder import Encoder
from workers.served_spaces import Served
from workers.stage_timings import Timings
from workers.worker import Worker

STAGES = ("claim", "fetch", "lookup", "decode", "encode", "write")

# The part of the worker to which a thread's CPU time belongs, by the thread's name.
_THREADS = {
    "cpu pool": "forward",
    "encode": "forward",
    "load": "fetch, decode, transform",
    "worker": "the queue",
    "lookup": "the queue",
}
IDLE = "idle"
NOT_WORK = frozenset({IDLE, "the bench and else"})
_CONNECTIONS = ("lookalike worker", "lookalike worker known", "lookalike worker answers")


class Recorder(Timings):
    """Timings that also record every single measurement of a stage."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[str, float]] = []

    def add(self, stage: str, seconds: float, space_id: int | None = None) -> None:
        super().add(stage, seconds, space_id)
        self.taken.append((stage, seconds))


@dataclass(frozen=True, slots=True)
class Run:
    """A running worker: a connection for the bench's own statements, and the worker's measurements."""

    conn: db.Connection
    recorder: Recorder


@contextmanager
def running(encoder: Encoder, settings: Settings, weights: str | None = None) -> Iterator[Run]:
    """Run a scratch server with one space, and a real worker in a thread."""
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as home:
        Path(home).chmod(0o755)
        with embedded.running(Path(home)) as server:
            schema.upgrade(server.url)
            with db.connect(server.url, autocommit=True, application="lookalike bench") as conn:
                space = spaces.create(
                    conn,
                    name="bench",
                    model=encoder.model_name,
                    weights=weights,
                    dimensions=encoder.dimensions,
                    preprocessing=encoder.preprocessing,
                    fingerprint=encoder.fingerprint,
                )
                worker = Worker(server.url, [Served(space, encoder)], settings)
                recorder = worker._timings = Recorder()
                thread = threading.Thread(target=worker.run, name="worker")
                thread.start()
                try:
                    yield Run(conn, recorder)
                finally:
                    worker.stop()
                    thread.join()


def drain(run: Run, uris: list[str]) -> float:
    """Insert images and wait until all are embedded, then delete them; return the seconds from the commit on."""
    conn = run.conn
    run.recorder.taken.clear()
    conn.execute("INSERT INTO lookalike.images (uri) SELECT unnest(%s::text[])", (uris,))
    began = time.perf_counter()
    while conn.execute("SELECT EXISTS (SELECT FROM lookalike.jobs)").fetchone() == (True,):
        time.sleep(0.02)
    taken = time.perf_counter() - began
    row = conn.execute(
        "SELECT (SELECT count(*) FROM lookalike.gallery), (SELECT count(*) FROM lookalike.failures)"
    ).fetchone()
    decoded = sum(stage == "decode" for stage, _ in run.recorder.taken)
    if row != (len(uris), 0) or decoded < len(uris):
        raise SystemExit(f"of {len(uris)} images (embedded, failed) are {row}, and {decoded} were decoded")
    conn.execute("DELETE FROM lookalike.images")
    return taken


def cpu_seconds(conn: db.Connection) -> dict[str, float]:
    """Return the CPU seconds so far by owner: threads of this process, the server, idle. Linux only."""
    spent: defaultdict[str, float] = defaultdict(float)
    names = {str(thread.native_id): thread.name for thread in threading.enumerate()}
    for task in Path("/proc/self/task").iterdir() if Path("/proc/self/task").exists() else ():
        name = names.get(task.name, "").rstrip("0123456789").partition("_")[0]
        spent[_THREADS.get(name, "the bench and else")] += _cpu(task)
    for pid, application in conn.execute("SELECT pid, application_name FROM pg_stat_activity").fetchall():
        whose = "the queue, in the database" if application in _CONNECTIONS else "the bench and else"
        spent[whose] += _cpu(Path("/proc") / str(pid))
    if Path("/proc/stat").exists():
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        spent[IDLE] = (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
    return dict(spent)


def _cpu(folder: Path) -> float:
    with suppress(OSError, IndexError):  # it has ended
        return int((folder / "schedstat").read_text().split()[0]) / 1e9
    return 0.0


def conditions(encoder: Encoder, options: argparse.Namespace) -> dict[str, Any]:
    """Return hardware, versions, settings and seed."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "hardware": f"{model} {hardware_of(encoder.device)}".strip(),
        "model": encoder.model_name,
        "encoder": encoder.description,
        "memory_format": "channels_last" if encoder.channels_last else "contiguous",
        "batch": encoder.batch_size,
        "chunk": encoder.chunk,
        "lanes": encoder.concurrency,
        "versions": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "pillow": PIL.__version__,
            "python": platform.python_version(),
        },
        "load_average": os.getloadavg(),
        "options": {key: value for key, value in vars(options).items() if key != "results"},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
