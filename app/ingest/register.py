"""Register images in the database, idempotently by uri and content, and wait until they are searchable."""

import hashlib
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from psycopg import errors as pg
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.errors import ImageError, NoWorkerError
from app.ingest.find import Candidate, Refusal
from app.media.header import Header, read_header

BATCH = 500
_BATCH_SECONDS = 1.0  # a batch is written by then even if it is not full, so that progress shows and little is lost
_TRIES = 5
_WAIT_CHUNK = 10_000
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Batch:
    """The result of one committed batch: numbers of new, changed and unchanged images, their ids, and those refused."""

    new: int
    changed: int
    unchanged: int
    ids: list[int]
    refused: list[Refusal]

    @property
    def size(self) -> int:
        """The number of all images, refused ones included."""
        return self.new + self.changed + self.unchanged + len(self.refused)


@dataclass(frozen=True, slots=True)
class Progress:
    """How many images are searchable, have failed (reasons: `lookalike.failures`), or were deleted meanwhile."""

    searchable: int
    failed: int
    gone: int
    worker_alive: bool

    @property
    def done(self) -> int:
        """The number of images that are no longer waited for."""
        return self.searchable + self.failed + self.gone

    def plus(self, other: "Progress") -> "Progress":
        """Return the sum of both, with the other's `worker_alive`."""
        return Progress(
            self.searchable + other.searchable,
            self.failed + other.failed,
            self.gone + other.gone,
            worker_alive=other.worker_alive,
        )


@dataclass(frozen=True, slots=True)
class Inspected:
    """A candidate with the hash and the header of its file; None if the file was not read."""

    candidate: Candidate
    sha256: bytes | None
    header: Header | None


def register_images(
    conn: Connection,
    candidates: Iterable[Candidate],
    *,
    max_bytes: int,
    max_pixels: int,
    threads: int | None = None,
    batch: int = BATCH,
) -> Iterator[Batch]:
    """Register candidates (no uri twice) batch by batch, and yield the result of each batch after its commit.

    The connection is in autocommit, and a batch is one statement: if a run is interrupted, run it again. A few threads
    read and hash the files; only headers are decoded. Metadata that a candidate lacks stays as it is in the database.
    """
    taken: list[Inspected] = []
    refused: list[Refusal] = []
    began = time.monotonic()
    for one in _inspect_all(candidates, max_bytes=max_bytes, max_pixels=max_pixels, threads=threads):
        if isinstance(one, Refusal):
            refused.append(one)
        else:
            taken.append(one)
        if len(taken) + len(refused) >= batch or time.monotonic() - began > _BATCH_SECONDS:
            yield write_batch(conn, taken, refused)
            taken, refused, began = [], [], time.monotonic()
    if taken or refused:
        yield write_batch(conn, taken, refused)


def _inspect_all(
    candidates: Iterable[Candidate], *, max_bytes: int, max_pixels: int, threads: int | None
) -> Iterator[Inspected | Refusal]:
    """Inspect candidates in threads, a few files ahead, and yield them in order."""
    count = threads or min(8, os.cpu_count() or 1)
    source = iter(candidates)
    ahead: deque[Future[Inspected | Refusal]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="inspect")
    try:
        while True:
            for candidate in islice(source, 2 * count - len(ahead)):
                ahead.append(pool.submit(_inspect, candidate, max_bytes, max_pixels))
            if not ahead:
                return
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _inspect(candidate: Candidate, max_bytes: int, max_pixels: int) -> Inspected | Refusal:
    if candidate.path is None:
        return Inspected(candidate, None, None)
    try:
        data = _read(candidate.path, max_bytes)
        header = read_header(data, max_pixels=max_pixels)
    except ImageError as error:
        return Refusal(candidate.origin, error.reason)
    return Inspected(candidate, hashlib.sha256(data).digest(), header)


def _read(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        ImageError: the file cannot be read or is too large; its step is "fetch".
    """
    try:
        # O_NONBLOCK, because opening a named pipe would wait for its writer for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("fetch", "it is a folder, a device or a pipe, not a file")
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ImageError("fetch", f"it cannot be read: {reason}") from error
    if len(data) > max_bytes:
        raise ImageError(
            "fetch",
            f"it has {max(status.st_size, len(data)):,} bytes; the limit is {max_bytes:,} (LOOKALIKE_MAX_IMAGE_BYTES)",
        )
    return data


def write_batch(conn: Connection, taken: Sequence[Inspected], refused: list[Refusal]) -> Batch:
    """Register inspected candidates in one statement; return the result, with `refused` passed through."""
    parameters = {
        "uris": [one.candidate.uri for one in taken],
        "hashes": [one.sha256 for one in taken],
        "media_types": [one.header and one.header.media_type for one in taken],
        "widths": [one.header and one.header.width for one in taken],
        "heights": [one.header and one.header.height for one in taken],
        "captions": [one.candidate.caption for one in taken],
        "attributes": [Jsonb(one.candidate.attributes) for one in taken],
    }
    rows = _execute(conn, parameters) if taken else []
    outcomes = [str(outcome) for _, outcome in rows]
    return Batch(
        new=outcomes.count("new"),
        changed=outcomes.count("changed"),
        unchanged=outcomes.count("unchanged"),
        ids=[int(str(id_)) for id_, _ in rows],
        refused=refused,
    )


def _execute(conn: Connection, parameters: Mapping[str, object]) -> list[tuple[object, ...]]:
    with translated():
        for left in reversed(range(_TRIES)):
            try:
                return conn.execute(sql.query("ingest_images"), parameters).fetchall()
            except (pg.DeadlockDetected, pg.SerializationFailure):  # with another writer of the same images
                if not left:
                    raise
                time.sleep(0.1)
    return []


def wait_until_searchable(
    conn: Connection,
    ids: Sequence[int],
    *,
    patience: float = 60,
    progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Wait until these images are searchable in the active space, or have failed; return how many.

    The connection is in autocommit. `progress` is called after every poll.

    Raises:
        NoWorkerError: there was no live worker for `patience` seconds in a row.
    """
    done = total = Progress(0, 0, 0, worker_alive=True)
    alive_at = time.monotonic()
    for at in range(0, len(ids), _WAIT_CHUNK):
        chunk = list(ids[at : at + _WAIT_CHUNK])
        while True:
            total = done.plus(read_progress(conn, chunk))
            if progress:
                progress(total)
            if total.done - done.done >= len(chunk):
                done = total
                break
            if total.worker_alive:
                alive_at = time.monotonic()
            elif time.monotonic() - alive_at >= patience:
                raise NoWorkerError(
                    f"{len(ids) - total.done} images wait, but no worker has been alive for {patience:g} s; "
                    "start one: lookalike worker"
                )
            time.sleep(_POLL_SECONDS)
    return done


def read_progress(conn: Connection, ids: list[int]) -> Progress:
    """Return how many of these images are searchable, failed or deleted, and whether a worker is alive."""
    with translated():
        row = conn.execute(sql.query("ingest_waiting"), {"ids": ids}).fetchone()
    searchable, failed, gone, alive = row or (0, 0, 0, False)
    return Progress(int(str(searchable)), int(str(failed)), int(str(gone)), worker_alive=bool(alive))
