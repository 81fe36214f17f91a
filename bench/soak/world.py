"""Server, gallery, workers and API of a run; each process is ended by its id at the end."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from psycopg.types.json import Jsonb

from app import db
from app.db import embedded, schema
from app.index.build import build_index
from app.store import jobs, spaces
from app.store.jobs import Embedded
from bench.api import standby
from bench.soak.pool import Pool

ROOT = Path(__file__).parents[2]
WORKERS = 2
_BATCH = 200
_STANDBY = {"hot_standby_feedback": "on"}  # a vacuum of the primary must not cancel searches on the standby
_PATIENCE = 120.0


@dataclass
class World:
    """The processes of a run and their addresses."""

    home: Path
    url: str
    pool: Pool
    images: dict[int, int]  # image id → picture
    api: str = ""
    api_process: "subprocess.Popen[str] | None" = None
    workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    standby: embedded.EmbeddedServer | None = None

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "LOOKALIKE_DATABASE_URL": self.url,
            **({"LOOKALIKE_READ_DATABASE_URL": self.standby.url} if self.standby else {}),
            "LOOKALIKE_HOME": str(self.home / "server"),
            "LOOKALIKE_STORAGE_URL": str(self.home / "uploads"),
            "LOOKALIKE_IMAGE_ROOTS": "/",
            "LOOKALIKE_PORT": "0",
            "LOOKALIKE_API_WORKERS": "2",
            "LOOKALIKE_API_THREADS": "4",
            "LOOKALIKE_BATCH_SIZE": "4",
            "LOOKALIKE_LOADER_THREADS": "1",
            "LOOKALIKE_DEVICE": "cpu",
            "LOOKALIKE_PRECISION": "fp32",  # like the pool
            "LOOKALIKE_INDEX_MIN_ROWS": "100",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    def cli(self, *words: str) -> str:
        """Run a CLI command; return its output.

        Raises:
            RuntimeError: the command fails; the message ends with its errors.
        """
        done = subprocess.run(
            ["nice", "-n", "10", sys.executable, "-m", "app.cli", *words],  # like an operator on a busy machine
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=2 * _PATIENCE,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"lookalike {' '.join(words)}: {done.stderr.strip()[-500:]}")
        return done.stdout.strip()

    def start_worker(self) -> "subprocess.Popen[bytes]":
        """Start a worker and wait until it is alive. It is nice to searches, for which somebody waits."""
        with (self.home / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                ["nice", "-n", "10", sys.executable, "-m", "workers"], env=self.environment(), stdout=log, stderr=log
            )
        self.workers.append(process)
        with db.connect(self.url, autocommit=True, application="soak") as conn:
            self.until(
                lambda: self._alive(conn, process.pid),
                f"worker {process.pid} is alive",
                process,
            )
        return process

    def _alive(self, conn: db.Connection, pid: int) -> bool:
        statement = "SELECT EXISTS (SELECT FROM lookalike.worker_status WHERE alive AND name LIKE %s)"
        return conn.execute(statement, (f"%:{pid}",)).fetchone() == (True,)

    def until(self, done: "object", what: str, process: "subprocess.Popen[bytes] | None" = None) -> None:
        """Wait until `done()`.

        Raises:
            RuntimeError: two minutes have passed, or the process ended first.
        """
        deadline = time.monotonic() + _PATIENCE
        while not done():  # type: ignore[operator]
            if process and process.poll() is not None:
                log = (self.home / "worker.log").read_text(errors="replace")
                raise RuntimeError(f"{what}: it ended with status {process.returncode}:\n{log[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"timeout after {_PATIENCE:.0f} s, waiting until {what}")
            time.sleep(0.1)

    def end_worker(self, process: "subprocess.Popen[bytes]") -> None:
        """Send SIGTERM and wait until the worker has ended with status 0."""
        process.terminate()
        if status := process.wait(_PATIENCE):
            raise RuntimeError(f"a worker ended with status {status} at SIGTERM")
        self.workers.remove(process)

    def api_children(self) -> list[int]:
        """Return the ids of the processes that answer requests."""
        pid = self.api_process.pid if self.api_process else 0
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def build(pool: Pool, *, images: int) -> Iterator[World]:
    """Yield a world with `images` indexed images in the first model's space, two workers and the API."""
    with tempfile.TemporaryDirectory(prefix="lookalike-soak-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o755)
        with ExitStack() as servers:
            server = servers.enter_context(embedded.running(home / "server"))
            schema.upgrade(server.url)
            world = World(home, server.url, pool, _gallery(server.url, pool, images))
            try:
                world.standby = servers.enter_context(_standby(server, home / "standby"))
                _start_api(world)
                for _ in range(WORKERS):
                    world.start_worker()
                yield world
            finally:
                for process in world.workers:
                    process.terminate()
                for process in world.workers:
                    process.wait(60)
                if world.api_process:
                    world.api_process.terminate()
                    world.api_process.wait(60)


@contextmanager
def _standby(primary: embedded.EmbeddedServer, home: Path) -> Iterator[embedded.EmbeddedServer]:
    """Run a streaming standby, to which the API sends its searches."""
    standby.make(primary, home)
    with embedded.running(home, settings=_STANDBY) as server:
        yield server


def kill_standby(world: World) -> None:
    """Kill the standby's postmaster with -9, like a lost machine; its backends end by themselves."""
    if world.standby:
        os.kill(int((world.standby.data_dir / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)


def start_standby(world: World) -> None:
    """Start the standby again; return when it accepts connections."""
    with embedded.running(world.home / "standby", settings=_STANDBY):
        return


def _gallery(url: str, pool: Pool, images: int) -> dict[int, int]:
    """Fill the first space with the pool's embeddings; the workers write all later changes."""
    model = pool.models[0]
    found: dict[int, int] = {}
    with db.connect(url, autocommit=True) as conn:
        spaces.create(
            conn,
            name="first",
            model=model.name,
            weights=model.weights,
            dimensions=model.embeddings.shape[1],
            preprocessing=model.about.preprocessing,
            fingerprint=model.about.fingerprint,
        )
        space = spaces.active(conn)
        numbers = {str(file): number for number, file in enumerate(pool.files)}
        for start in range(0, images, _BATCH):
            part = range(start, min(start + _BATCH, images))
            conn.execute(
                "INSERT INTO lookalike.images (uri, attributes) SELECT * FROM unnest(%s::text[], %s::jsonb[])",
                ([str(pool.files[n]) for n in part], [Jsonb(pool.attributes(n)) for n in part]),
            )
            lease = uuid4()
            claimed = jobs.claim(conn, space, lease=lease, most=_BATCH, lease_seconds=600)
            found |= {job.image_id: numbers[job.uri] for job in claimed}
            jobs.finish(conn, space, lease=lease, embedded=[_embedded(job, numbers, pool) for job in claimed])
        build_index(conn, space)
        conn.execute("VACUUM ANALYZE")
    return found


def _embedded(job: jobs.Job, numbers: dict[str, int], pool: Pool) -> Embedded:
    import hashlib

    number = numbers[job.uri]
    return Embedded(
        image_id=job.image_id,
        embedding=pool.models[0].embeddings[number],
        sha256=hashlib.sha256(pool.files[number].read_bytes()).digest(),
        media_type="image/jpeg",
        width=256,
        height=256,
    )


def _start_api(world: World) -> None:
    log = world.home / "api.log"
    with log.open("w") as lines:
        world.api_process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve"], env=world.environment(), stdout=lines, stderr=lines, text=True
        )
    deadline = time.monotonic() + 60
    while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
        if time.monotonic() > deadline or world.api_process.poll() is not None:
            raise RuntimeError(f"the API does not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)
    world.api = found[0]


def reload_api(world: World) -> None:
    """Send SIGHUP; return when every old process has ended."""
    before = set(world.api_children())
    if world.api_process:
        world.api_process.send_signal(signal.SIGHUP)
    world.until(lambda: world.api_children() and not before & set(world.api_children()), "the API's processes are new")
