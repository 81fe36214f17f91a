"""Builds and removes the world of a run: server, spaces, anchors, processes, clients."""

import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import timm
import torch

from app import db
from app.db import schema
from app.store import spaces
from bench.chaos.callers import Api, Asker, Uploader
from bench.chaos.check import Truth
from bench.chaos.havoc import DISK, Havoc, Host
from bench.chaos.journal import Journal
from bench.chaos.pictures import Pictures
from bench.chaos.processes import API, Fleet, Postgres, Slot
from bench.chaos.reference import Reference
from bench.chaos.writers import Ledger, Writer

SMALL = "test_convnext"
REAL = "tf_efficientnet_lite0"
LEASE = 4.0
_ANCHORS = 24
# The spaces that each worker serves.
_WORKERS = (("small",), ("small",), ("real",), ("small", "real"))


@dataclass(frozen=True, slots=True)
class World:
    """Everything of a run."""

    home: Path
    postgres: Postgres
    fleet: Fleet
    havoc: Havoc
    host: Host
    writers: list[Writer]
    uploader: Uploader
    askers: list[Asker]
    truth: Truth
    ledger: Ledger
    journal: Journal
    pictures: Pictures

    def logs(self) -> list[Path]:
        return sorted((self.home / "logs").glob("*.log"))


@contextmanager
def build(journal: Journal, *, seed: int, rate: float) -> Iterator[World]:
    """Yield a running world whose clients and havoc are paused; everything ends with the block."""
    with tempfile.TemporaryDirectory(prefix="lookalike-chaos-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o755)
        (home / "logs").mkdir()
        postgres = Postgres(home / "server")
        fleet: Fleet | None = None
        host: Host | None = None
        try:
            references = _spaces(postgres.url, home, seed)
            pictures = Pictures(home / "pictures")
            host = Host(home / "pictures", seed)
            ledger = Ledger()
            anchors = _anchors(postgres.url, pictures, ledger, seed)
            port = _free_port()
            fleet = Fleet(journal, _slots(home), _environment(postgres.url, home, port))
            journal.note("workers and API are started")
            _await_anchors(postgres.url, fleet)
            api = Api(port, journal)
            expected = {image_id: references["small"].vector(data) for image_id, data in anchors.items()}
            askers = [
                Asker(number, seed, api, pictures, references["small"], expected, ledger, journal)
                for number in range(3)
            ]
            writers = [Writer(number, seed, postgres.url, pictures, ledger, journal, host.url) for number in range(4)]
            truth = Truth(references, pictures.poisons, pictures.folder, uploads=home / "uploads")
            yield World(
                home=home,
                postgres=postgres,
                fleet=fleet,
                havoc=Havoc(seed, postgres, fleet, journal, rate=rate, lease=LEASE),
                host=host,
                writers=writers,
                uploader=Uploader(0, seed, api, pictures, ledger, journal),
                askers=askers,
                truth=truth,
                ledger=ledger,
                journal=journal,
                pictures=pictures,
            )
        finally:
            if fleet:
                fleet.close()
            if host:
                host.shutdown()
                host.server_close()
            postgres.stop()


def _spaces(url: str, home: Path, seed: int) -> Mapping[str, Reference]:
    """Create two spaces: a small model with random weights (active), and the real default model."""
    torch.manual_seed(seed)
    weights = home / f"{SMALL}.pt"
    torch.save(timm.create_model(SMALL).state_dict(), weights)
    schema.upgrade(url)
    references = {"small": Reference(SMALL, str(weights)), "real": Reference(REAL)}
    with db.connect(url, autocommit=True) as conn:
        for name, file in (("small", str(weights)), ("real", None)):
            reference = references[name]
            space = spaces.create(
                conn,
                name=name,
                model=reference.model.name,
                weights=file,
                dimensions=reference.dimensions,
                preprocessing=reference.model.preprocessing,
                fingerprint=reference.model.fingerprint,
            )
            conn.execute(DISK)
            conn.execute(
                f"CREATE TRIGGER chaos_disk AFTER INSERT ON lookalike.{space.table_name}"
                " FOR EACH STATEMENT EXECUTE FUNCTION chaos.write()"
            )
        conn.execute(
            "CREATE TRIGGER chaos_disk AFTER INSERT ON lookalike.jobs FOR EACH STATEMENT EXECUTE FUNCTION chaos.write()"
        )
    return references


def _anchors(url: str, pictures: Pictures, ledger: Ledger, seed: int) -> dict[int, bytes]:
    rng = random.Random(f"{seed} anchors")
    anchors = {}
    with psycopg.connect(url) as conn:
        for _ in range(_ANCHORS):
            path, data = pictures.path(), pictures.picture(rng)
            pictures.write(path, data)
            row = conn.execute(
                "INSERT INTO lookalike.images (uri, attributes) VALUES (%s, %s) RETURNING id",
                (str(path), '{"role": "anchor"}'),
            ).fetchone()
            if row:
                anchors[int(row[0])] = data
                ledger.is_there(int(row[0]))
    return anchors


def _slots(home: Path) -> list[Slot]:
    slots = [Slot(API, "app.cli", ["serve"], home / "logs/api.log")]
    for number, names in enumerate(_WORKERS):
        arguments = [part for name in names for part in ("--space", name)]
        slots.append(Slot(f"worker-{number}", "workers", arguments, home / f"logs/worker-{number}.log"))
    return slots


def _environment(url: str, home: Path, port: int) -> dict[str, str]:
    return {
        "LOOKALIKE_DATABASE_URL": url,
        "LOOKALIKE_HOME": str(home / "server"),
        "LOOKALIKE_STORAGE_URL": str(home / "uploads"),
        "LOOKALIKE_PORT": str(port),
        "LOOKALIKE_API_WORKERS": "2",
        "LOOKALIKE_API_THREADS": "4",
        "LOOKALIKE_BATCH_SIZE": "8",
        "LOOKALIKE_LOADER_THREADS": "2",
        "LOOKALIKE_LEASE_SECONDS": str(LEASE),
        # Kills use up attempts here, and there are hundreds of them.
        "LOOKALIKE_MAX_ATTEMPTS": "50",
        "LOOKALIKE_INDEX_MIN_ROWS": "60",
        "LOOKALIKE_IMAGE_HOSTS": "127.0.0.1",
        "LOOKALIKE_IMAGE_ROOTS": "/",
        "LOOKALIKE_DEVICE": "cpu",
        "LOOKALIKE_PRECISION": "fp32",  # like the reference
        "LOOKALIKE_LOG_LEVEL": "DEBUG",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_anchors(url: str, fleet: Fleet) -> None:
    deadline = time.monotonic() + 180
    with psycopg.connect(url, autocommit=True) as conn:
        while conn.execute("SELECT count(*) FROM lookalike.jobs").fetchone() != (0,):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the first {_ANCHORS} images were not embedded; workers up: {fleet.workers_up()}")
            time.sleep(0.2)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
