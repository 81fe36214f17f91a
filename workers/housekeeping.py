"""A worker's chores: delete old answers and counts, queue missed images, build the first index, maintain indexes, and
check recall."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import psycopg
from psycopg.rows import scalar_row

from app import db
from app.config import Settings
from app.db import sql
from app.errors import BuildRunningError, ConfigurationError, DatabaseUnavailableError, LookalikeError
from app.index import maintenance
from app.index.build import build_index
from app.monitoring import recall
from app.store import query_images, spaces
from app.store.spaces import Space

log = logging.getLogger(__name__)

_TIDY_SECONDS = 300.0
_RETRY_SECONDS = 2.0
_MAINTAIN_SECONDS = 600.0
_ANSWER_SECONDS = 3600.0  # how long answers to query images are kept
_RECALL_LOOK_SECONDS = 5.0
_RECALL_ROUND_SECONDS = 1.0
_RECALL_WARN_SECONDS = 3600.0
_RECALL_CANCEL_SECONDS = 0.2


class Housekeeping:
    """Does one chore at a time, in its own thread and over its own connection, so that query images do not wait for it.

    It calls `wake` when a chore ends. `error` is the error of the last chore, unless the connection was lost; the chore
    is tried again some minutes later.
    """

    def __init__(
        self,
        url: str,
        served: Sequence[Space],
        *,
        settings: Settings,
        wake: Callable[[], None],
        maintain_seconds: float | None = _MAINTAIN_SECONDS,
    ) -> None:
        """`maintain_seconds`: between two checks whether indexes need maintenance; None: never."""
        self._url = url
        self._spaces = {space.id: space for space in served}
        self._settings = settings
        self._wake = wake
        self._recall_at = 0.0
        self._recall_warned_at = float("-inf")
        self._checking: db.Connection | None = None  # connection of the recall checks in progress
        self._interrupted = threading.Event()
        self._cancel_at = 0.0
        self._thread: threading.Thread | None = None
        self._tidy_at = 0.0
        self._maintain_seconds = maintain_seconds
        self._maintain_at = time.monotonic() + (maintain_seconds or 0)
        self._try_again = False
        self._grown = set(self._spaces)  # spaces that may need their first index now
        self.error: LookalikeError | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def done(self) -> bool:
        """Whether no chore is in progress or waiting."""
        return not self.busy and self._tidy_at > 0 and not self._grown and not self._try_again

    def serve(self, spaces: Sequence[Space]) -> None:
        """Set the spaces that the worker serves."""
        self._grown |= {space.id for space in spaces} - self._spaces.keys()
        self._spaces = {space.id: space for space in spaces}
        self._grown &= self._spaces.keys()

    def note_growth(self, space: Space) -> None:
        """Record that embeddings were written to `space`, which may need an index now."""
        if space.id in self._spaces:
            self._grown.add(space.id)

    def step(self, conn: db.Connection, *, idle: bool) -> None:
        """Start the next chore that is due. Maintenance, index builds and recall checks wait until the worker is idle.

        If the worker is no longer idle, recall checks in progress are stopped at once.
        """
        now = time.monotonic()
        if self.busy:
            if not idle:
                self._interrupt()
            return
        if now >= self._tidy_at:
            self._tidy_at = now + _TIDY_SECONDS
            self._try_again = False
            self._grown = set(self._spaces)
            self._start(lambda own: _tidy(own, list(self._spaces.values()), self._settings.recall_query_days))
            return
        if idle and self._maintain_seconds is not None and now >= self._maintain_at:
            self._maintain_at = now + self._maintain_seconds
            self._start(lambda own: _maintain(own, set(self._spaces)))
            return
        while idle and self._grown:
            space = self._spaces[self._grown.pop()]
            if self._needs_index(conn, space):
                self._start(lambda own, space=space: _build_index(own, space))  # type: ignore[misc]
                return
        if idle and now >= self._recall_at and self._settings.recall_budget > 0:
            self._recall_at = now + _RECALL_LOOK_SECONDS
            if (left := self._recall_due(conn)) > 0:
                self._interrupted.clear()
                self._start(lambda own: self._check_recall(own, min(left, _RECALL_ROUND_SECONDS)))

    def _needs_index(self, conn: db.Connection, space: Space) -> bool:
        values = {"space_id": space.id, "min_rows": self._settings.index_min_rows}
        with db.translated(), conn.cursor(row_factory=scalar_row) as cursor:
            return bool(cursor.execute(sql.query("index_wanted"), values).fetchone())

    def _recall_due(self, conn: db.Connection) -> float:
        """Return the seconds that recall checks may take now; 0 after an error, so that embedding goes on."""
        try:
            return recall.allowance(conn, budget=self._settings.recall_budget) if recall.waiting(conn) else 0
        except DatabaseUnavailableError:
            raise
        except LookalikeError as error:  # the schema is a revision back, say
            self._recall_at = time.monotonic() + _TIDY_SECONDS
            log.error("recall cannot be checked and is tried again in %.0f s: %s", _TIDY_SECONDS, error)  # noqa: TRY400
            return 0

    def _check_recall(self, conn: db.Connection, seconds: float) -> None:
        self._checking = conn
        try:
            done = recall.check(conn, seconds=seconds, stopped=self._interrupted.is_set)
            log.debug("checked the recall of %d searches in %.2f s", done.checked, done.seconds)
            if self._settings.recall_adjust > 1 and (
                changed := recall.adjust(conn, spaces.active(conn), most=self._settings.recall_adjust)
            ):
                log.warning("%s", recall.adjustment_text(changed))
            if time.monotonic() - self._recall_warned_at > _RECALL_WARN_SECONDS and (warning := recall.warning(conn)):
                self._recall_warned_at = time.monotonic()
                log.warning("%s", warning)
        except DatabaseUnavailableError:
            if not self._interrupted.is_set():
                raise
        finally:
            self._checking = None

    def _interrupt(self) -> None:
        """Cancel the recall checks, again and again while they run, because a cancel may fall between statements."""
        conn, now = self._checking, time.monotonic()
        if conn is None or (self._interrupted.is_set() and now < self._cancel_at):
            return
        self._interrupted.set()
        self._cancel_at = now + _RECALL_CANCEL_SECONDS
        try:
            conn.cancel_safe(timeout=1)
        except psycopg.Error as error:  # it ends anyway after the current check
            log.debug("the recall check could not be cancelled: %s", error)

    def _start(self, chore: Callable[[db.Connection], None]) -> None:
        # A daemon: if the worker ends during a build, the next worker drops the index and builds it anew.
        self._thread = threading.Thread(target=self._run, args=(chore,), name="housekeeping", daemon=True)
        self._thread.start()

    def _run(self, chore: Callable[[db.Connection], None]) -> None:
        try:
            with closing(db.connect(self._url, autocommit=True, application="lookalike worker housekeeping")) as conn:
                chore(conn)
            self.error = None
        except DatabaseUnavailableError as error:
            log.warning("housekeeping was cut off and is tried again soon: %s", error)
            self._try_again = True
            self._tidy_at = time.monotonic() + _RETRY_SECONDS
        except LookalikeError as error:
            log.error("housekeeping failed and is tried again in %.0f s: %s", _TIDY_SECONDS, error)  # noqa: TRY400
            self.error = error
        finally:
            self._thread = None
            self._wake()


def _tidy(conn: db.Connection, served: Sequence[Space], recall_query_days: float) -> None:
    if deleted := query_images.forget(conn, age_seconds=_ANSWER_SECONDS):
        log.debug("deleted %d old query images", deleted)
    with db.translated():
        db.call(conn, "fold_latencies")
    recall.forget(conn, days=recall_query_days)
    for space in served:
        missing = spaces.backfill(conn, space)
        if missing:
            log.info("queued %d images that space %s lacks", missing, space.name)


def _maintain(conn: db.Connection, served: set[int]) -> None:
    for found in maintenance.read_churn(conn):
        if found.space_id not in served:
            continue
        try:
            maintenance.maintain(conn, maintenance.decide(found))
        except BuildRunningError as error:
            log.info("%s", error)
        except ConfigurationError as error:  # missing privileges, or too little disk or memory
            log.warning("space %s needs maintenance that this worker cannot do: %s", found.space, error)


def _build_index(conn: db.Connection, space: Space) -> None:
    log.info("building the HNSW index of space %s; searches and writes go on meanwhile", space.name)
    began = time.monotonic()
    if build_index(conn, space):
        log.info("the HNSW index of space %s is built (%.1f s)", space.name, time.monotonic() - began)
