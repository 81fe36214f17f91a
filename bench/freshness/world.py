"""A server with the gallery, a worker, a queue, and the worker's counts."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app import db
from app.config import Settings
from app.demo import tour
from app.monitoring import status

_CHUNK = 20_000  # images registered in one statement


@dataclass
class World:
    """A database with the gallery, and a source of pictures with new bytes."""

    url: str
    folder: Path
    seed: int
    rng: random.Random = field(init=False)
    pictures: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.pictures = [path.read_bytes() for path in sorted(tour.GALLERY.glob("*.jpg"))]

    def picture(self, rng: random.Random | None = None) -> bytes:
        """Return a picture of the gallery with random bytes after its end, which no decoder reads."""
        rng = rng or self.rng
        return rng.choice(self.pictures) + rng.randbytes(16)

    def file(self, name: str) -> Path:
        """Write such a picture to a file."""
        path = self.folder / f"{name}.jpg"
        path.write_bytes(self.picture())
        return path


@contextmanager
def worker(url: str, log: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run `python -m workers`; yield when it is alive."""
    with log.open("ab") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers"],
            env={**os.environ, "LOOKALIKE_DATABASE_URL": url, "LOOKALIKE_IMAGE_ROOTS": "/", **environment},
            stderr=lines,
        )
    try:
        with db.connect(url, autocommit=True) as conn:
            while not one(conn, "SELECT count(*) FROM lookalike.worker_status WHERE alive"):
                if process.poll() is not None:
                    raise SystemExit(f"the worker ended with status {process.returncode}:\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(60)


def fill(world: World, conn: db.Connection, images: int) -> None:
    """Register the gallery and wait until the worker has embedded it and, if it is large enough, built the index."""
    paths = sorted(tour.GALLERY.glob("*.jpg"))[:images]
    register(conn, [str(path) for path in paths])
    while one(conn, "SELECT count(*) FROM lookalike.jobs"):
        time.sleep(0.2)
    wanted = images >= Settings().index_min_rows
    while wanted and not one(conn, "SELECT bool_or(index_valid) FROM lookalike.space_status"):
        time.sleep(0.2)


def register(conn: db.Connection, uris: Sequence[str]) -> None:
    """Insert images, one transaction per chunk."""
    for start in range(0, len(uris), _CHUNK):
        conn.execute(
            "INSERT INTO lookalike.images (uri) SELECT unnest(%s::text[])", (list(uris[start : start + _CHUNK]),)
        )


def enqueue(world: World, conn: db.Connection, queued: int, files: int) -> None:
    """Queue `queued` images. The first `files`, which the worker may reach, are real files with their own bytes."""
    (world.folder / "queue").mkdir()
    uris = [str(world.file(f"queue/{number}")) for number in range(min(files, queued))]
    register(conn, uris)
    later = world.folder / "later"
    for start in range(len(uris), queued, _CHUNK):
        register(conn, [str(later / f"{number}.jpg") for number in range(start, min(start + _CHUNK, queued))])


def totals(conn: db.Connection) -> dict[tuple[str, int], tuple[int, float]]:
    """Return the counts of the workers so far, by measure and bucket."""
    return {(one.measure, one.bucket): (one.count, one.seconds) for one in status.latency_totals(conn)}


def since(conn: db.Connection, before: dict[tuple[str, int], tuple[int, float]]) -> dict[str, dict[str, float]]:
    """Return count, mean, p50 and p95 of each measure since `before`, by the database's own quantiles."""
    now = totals(conn)
    grown: dict[str, list[tuple[int, int, float]]] = {}
    for (measure, bucket), (count, seconds) in sorted(now.items()):
        old_count, old_seconds = before.get((measure, bucket), (0, 0.0))
        if count > old_count:
            grown.setdefault(measure, []).append((bucket, count - old_count, seconds - old_seconds))
    quantile = "SELECT lookalike.latency_quantile(%s::smallint[], %s::bigint[], %s)"
    found = {}
    for measure, rows in grown.items():
        buckets, counts = [row[0] for row in rows], [row[1] for row in rows]
        found[measure] = {
            "count": sum(counts),
            "mean": sum(row[2] for row in rows) / sum(counts),
            "p50": one(conn, quantile, buckets, counts, 0.5),
            "p95": one(conn, quantile, buckets, counts, 0.95),
        }
    return found


def embedded_images(conn: db.Connection) -> int:
    """Return how many images are searchable."""
    return int(one(conn, "SELECT count(*) FROM lookalike.active_embeddings"))


def one(conn: db.Connection, statement: str, *values: object) -> Any:  # noqa: ANN401
    """Return the first column of the statement's first row."""
    row = conn.execute(statement, values).fetchone()
    return row[0] if row else None
