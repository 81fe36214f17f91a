"""Claims query images, submits them to the pipeline and writes their answers.

It has its own thread and connection, so that query images wait for no claim and no write of jobs.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from app import db
from app.db.retry import until_available
from app.store import query_images
from app.store.spaces import Space
from workers import writer
from workers.heartbeat import Progress
from workers.pipeline import Pipeline
from workers.stage_timings import Timings
from workers.tasks import Outcome, Task
from workers.wakeup import Wakeup

log = logging.getLogger(__name__)

# Notifications wake the thread. Polling finds what sends none: claims that expire without an answer.
_POLL_SECONDS = 5.0
_LEASE_SECONDS = 10.0
# How long `finish` waits for the thread: longer than its last statement takes.
_MOST_STOP_SECONDS = 5.0


class QueryLoop:
    """Claims and answers query images of the spaces served; waits for a database that is unreachable.

    `check` raises if a new connection is not to the worker's database. That error, or any other that waiting cannot
    mend, becomes `error`; then the loop calls `wake`.
    """

    def __init__(
        self,
        url: str,
        spaces: Sequence[Space],
        *,
        most: int,
        poll_seconds: float,
        check: Callable[[db.Connection], None],
        progress: Progress,
        timings: Timings,
        wake: Callable[[], None],
    ) -> None:
        """`spaces`: its content may change. `most`: query images in a claim; twice as many may be in work."""
        self._url = url
        self._spaces = spaces
        self._most = most
        self._poll_seconds = min(_POLL_SECONDS, poll_seconds)
        self._check = check
        self._progress = progress
        self._timings = timings
        self._wake = wake
        self._wakeup = Wakeup()
        self._pipeline: Pipeline | None = None
        self._lock = threading.Lock()
        self._outcomes: list[Outcome] = []  # not yet written; under the lock
        self._in_work: set[Task] = set()  # claimed, not yet written
        self._due = True
        self._stopping = self._finishing = False
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
        self.error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether query images are claimed and not yet answered."""
        return bool(self._in_work)

    def start(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._thread.start()

    def put(self, outcomes: Sequence[Outcome]) -> None:
        """Queue outcomes of the pipeline to be written. Safe in threads."""
        with self._lock:
            self._outcomes += outcomes
        self._wakeup.set()

    def poll(self) -> None:
        """Claim now, because the spaces have changed."""
        self._due = True
        self._wakeup.set()

    def stop(self) -> None:
        """Claim no more query images; those in work are still answered."""
        self._stopping = True
        self._wakeup.set()

    def finish(self) -> None:
        """Write the answers so far and end. If the connection is lost, other workers claim the rest again."""
        self._stopping = self._finishing = True
        self._wakeup.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=_MOST_STOP_SECONDS)
        self._wakeup.close()

    def _run(self) -> None:
        try:
            until_available(self._session, pause=self._pause)
        except BaseException as error:  # noqa: BLE001 — raised again in the worker's thread
            self.error = error
            self._wake()

    def _pause(self, seconds: float) -> bool:
        """Sleep while the database is unreachable; return whether to go on."""
        end = time.monotonic() + seconds
        while not self._finishing and (left := end - time.monotonic()) > 0:
            self._wakeup.wait(left)
        return not self._finishing

    def _session(self) -> None:
        with (
            closing(db.connect(self._url, autocommit=True, application="lookalike worker answers")) as conn,
            db.translated(),
        ):
            self._check(conn)
            conn.execute("LISTEN lookalike_queries")
            self._due = True
            while True:
                finishing = self._finishing
                self._answer(conn)
                if finishing:
                    return
                self._claim(conn)
                self._wait(conn)

    def _wait(self, conn: db.Connection) -> None:
        """Wait for a notification, an outcome, the end, or the time to poll."""
        due = self._notified(conn)
        if not (due or (self._due and self._may_claim())):
            woken = self._wakeup.wait(self._poll_seconds, descriptor=conn.fileno())
            due = self._notified(conn) or not woken
        self._due |= due

    def _notified(self, conn: db.Connection) -> bool:
        return len(list(conn.notifies(timeout=0))) > 0

    def _may_claim(self) -> bool:
        return not self._stopping and len(self._in_work) <= self._most

    def _claim(self, conn: db.Connection) -> None:
        while self._due and self._may_claim() and self._pipeline:
            self._due = False
            for space in list(self._spaces):  # the active one first
                with self._timings.measure("claim", space.id):
                    claimed = query_images.claim(conn, space, most=self._most, lease_seconds=_LEASE_SECONDS)
                tasks = [Task(space, query) for query in claimed]
                self._in_work.update(tasks)
                self._pipeline.submit(tasks)
                self._due |= len(claimed) == self._most
                if tasks:
                    self._wake()  # the worker is busy now: it stops chores and counts the time

    def _answer(self, conn: db.Connection) -> None:
        """Write the answers; after an error they stay for the next connection."""
        with self._lock:
            waiting = list(self._outcomes)
        if not waiting:
            return
        began = time.perf_counter()
        answered = writer.answer_queries(conn, waiting)
        self._progress.answered += answered
        seconds = time.perf_counter() - began
        served = {one.task.space.id for one in waiting}
        for space_id in served:
            self._timings.add("write", seconds / len(served), space_id)
        for one in waiting:
            self._timings.note("query", one.task.space.id, [one.task.age])
        with self._lock:
            del self._outcomes[: len(waiting)]
        self._in_work.difference_update(one.task for one in waiting)
        log.debug("answered %d query images", answered)
        self._wake()
