"""Keeps the worker's row in lookalike.workers and its counts in lookalike.latencies and worker_costs fresh.

It has its own thread and connection.
"""

import logging
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from psycopg.rows import scalar_row

from app import db
from app.db import sql
from app.errors import LookalikeError
from app.store.spaces import Space
from app.version import version
from workers.costs import costs
from workers.stage_timings import Timings

log = logging.getLogger(__name__)

# lookalike.live_workers counts a worker as alive for ten seconds after a beat.
_BEAT_SECONDS = 2.0


@dataclass(slots=True)
class Progress:
    """The state of a worker and its totals. The worker's threads write it, and the heartbeat's thread reads it."""

    state: str = "idle"
    embedded: int = 0
    reused: int = 0  # embedded without encoding
    failed: int = 0
    answered: int = 0
    busy_seconds: float = 0.0  # with work
    last_error: str | None = None


class Heartbeat:
    """Registers the worker, updates its row every two seconds, reconnects, and removes the row when it stops."""

    def __init__(self, url: str, spaces: Sequence[Space], *, device: str, progress: Progress, timings: Timings) -> None:
        self._url = url
        self._space_ids = [space.id for space in spaces]
        self._device = device
        self._progress = progress
        self._timings = timings
        self._worker_id: int | None = None
        self._reported_busy_seconds = 0.0
        self._reported_space_ids = self._space_ids
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def serve(self, spaces: Sequence[Space]) -> None:
        """Set the spaces that the worker serves; the next beat stores them."""
        self._space_ids = [space.id for space in spaces]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Remove the row and end the thread, without waiting for a database that is unreachable."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        lost = False
        while True:
            try:
                with closing(db.connect(self._url, autocommit=True, application="lookalike worker heartbeat")) as conn:
                    lost = False
                    self._beat_until_stopped(conn)
                    return
            except LookalikeError as error:
                if not lost:
                    log.warning("no heartbeat for now: %s", error)
                lost = True
            if self._stopping.wait(_BEAT_SECONDS):
                return

    def _beat_until_stopped(self, conn: db.Connection) -> None:
        while True:
            if self._worker_id is None or not self._beat(conn, self._worker_id):
                self._worker_id = self._begin(conn)
            self._add_latencies(conn)
            if self._stopping.wait(_BEAT_SECONDS):
                self._add_latencies(conn)
                with db.translated():
                    conn.execute(sql.query("end_worker"), {"worker_id": self._worker_id})
                return

    def _begin(self, conn: db.Connection) -> int:
        name = f"{socket.gethostname()}:{os.getpid()}"
        self._reported_space_ids = self._space_ids
        with db.translated(), conn.cursor(row_factory=scalar_row) as cursor:
            begun = db.call(cursor, "begin_worker", name, version(), self._device, self._space_ids)
            return int(begun.fetchone() or 0)

    def _beat(self, conn: db.Connection, worker_id: int) -> bool:
        now = self._progress
        values = (worker_id, now.state, now.embedded, now.failed, now.answered, now.last_error)
        with db.translated(), conn.cursor(row_factory=scalar_row) as cursor:
            if self._reported_space_ids != self._space_ids:
                self._reported_space_ids = self._space_ids
                values_now = {"worker_id": worker_id, "space_ids": self._reported_space_ids}
                cursor.execute(sql.query("serve_spaces"), values_now)
            return bool(db.call(cursor, "beat_worker", *values).fetchone())

    def _add_latencies(self, conn: db.Connection) -> None:
        """Store the counts since the last beat and their costs; after an error the next beat stores them."""
        counts = self._timings.take_counts()
        if not counts:
            return
        busy = self._progress.busy_seconds
        spent = costs(counts, busy=busy - self._reported_busy_seconds)
        try:
            with db.translated(), conn.transaction():
                db.call(conn, "add_latencies", *_columns(counts, "space_id", "measure", "bucket", "count", "seconds"))
                db.call(conn, "add_costs", self._device, *_columns(spent, "space_id", "measure", "count", "seconds"))
            self._reported_busy_seconds = busy
        except LookalikeError:
            self._timings.give_back(counts)
            raise


def _columns(rows: Sequence[object], *names: str) -> list[list[object]]:
    return [[getattr(row, name) for row in rows] for name in names]
