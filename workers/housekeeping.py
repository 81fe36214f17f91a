"""What a worker does beside its work: old answers and counts, missed images, the first index, what changes have left
behind. Imports `app`."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from psycopg.rows import scalar_row

from app import db, indexes, maintenance, queries, spaces, sql
from app.errors import BuildRunningError, ConfigurationError, DatabaseUnavailableError, LookalikeError
from app.records import Space

log = logging.getLogger(__name__)

_TIDY_SECONDS = 300.0
_RETRY_SECONDS = 2.0
_MAINTAIN_SECONDS = 600.0
_ANSWER_SECONDS = 3600.0  # how long answers to query images are kept


class Housekeeping:
    """Does one chore at a time, in a thread and connection of its own, so that query images need not wait for it.

    `wake` is called when a chore ends. `error` is what the last one met, other than a lost connection; it is
    tried again some minutes later.
    """

    def __init__(
        self,
        url: str,
        served: Sequence[Space],
        *,
        index_min_rows: int,
        wake: Callable[[], None],
        maintain_seconds: float | None = _MAINTAIN_SECONDS,
    ) -> None:
        """`maintain_seconds`: between two looks at what changes have left behind; None: never."""
        self._url = url
        self._spaces = {space.id: space for space in served}
        self._index_min_rows = index_min_rows
        self._wake = wake
        self._thread: threading.Thread | None = None
        self._tidy_at = 0.0
        self._maintain_seconds = maintain_seconds
        self._maintain_at = time.monotonic() + (maintain_seconds or 0)
        self._try_again = False
        self._grown = set(self._spaces)  # spaces that may want their first index now
        self.error: LookalikeError | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def done(self) -> bool:
        """Whether nothing is in progress or waits for its turn."""
        return not self.busy and self._tidy_at > 0 and not self._grown and not self._try_again

    def serve(self, spaces: Sequence[Space]) -> None:
        """Take note of what the worker serves now."""
        self._grown |= {space.id for space in spaces} - self._spaces.keys()
        self._spaces = {space.id: space for space in spaces}
        self._grown &= self._spaces.keys()

    def note_growth(self, space: Space) -> None:
        """Take note of embeddings written to `space`."""
        if space.id in self._spaces:
            self._grown.add(space.id)

    def step(self, conn: db.Connection, *, idle: bool) -> None:
        """Start the next chore that is due; an index waits until the worker is idle."""
        now = time.monotonic()
        if self.busy:
            return
        if now >= self._tidy_at:
            self._tidy_at = now + _TIDY_SECONDS
            self._try_again = False
            self._grown = set(self._spaces)
            self._start(lambda own: _tidy(own, list(self._spaces.values())))
            return
        if idle and self._maintain_seconds is not None and now >= self._maintain_at:
            self._maintain_at = now + self._maintain_seconds
            self._start(lambda own: _maintain(own, set(self._spaces)))
            return
        while idle and self._grown:
            space = self._spaces[self._grown.pop()]
            if self._wants_index(conn, space):
                self._start(lambda own, space=space: _build_index(own, space))  # type: ignore[misc]
                return

    def _wants_index(self, conn: db.Connection, space: Space) -> bool:
        values = {"space_id": space.id, "min_rows": self._index_min_rows}
        with db.translated(), conn.cursor(row_factory=scalar_row) as cursor:
            return bool(cursor.execute(sql.query("index_wanted"), values).fetchone())

    def _start(self, chore: Callable[[db.Connection], None]) -> None:
        # A daemon: a build that is cut off by the worker's end is dropped and begun anew by the next.
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


def _tidy(conn: db.Connection, served: Sequence[Space]) -> None:
    if forgotten := queries.forget(conn, age_seconds=_ANSWER_SECONDS):
        log.debug("forgot %d query images", forgotten)
    with db.translated():
        conn.execute(sql.query("fold_latencies"))
    for space in served:
        missing = spaces.backfill(conn, space)
        if missing:
            log.info("queued %d images that space %s lacked", missing, space.name)


def _maintain(conn: db.Connection, served: set[int]) -> None:
    for found in maintenance.look(conn):
        if found.space_id not in served:
            continue
        try:
            maintenance.maintain(conn, maintenance.decide(found))
        except BuildRunningError as error:
            log.info("%s", error)
        except ConfigurationError as error:  # a role that may not; or too little disk or memory
            log.warning("space %s wants maintenance that this worker cannot do: %s", found.space, error)


def _build_index(conn: db.Connection, space: Space) -> None:
    log.info("building the HNSW index of space %s; searches and writes go on meanwhile", space.name)
    began = time.monotonic()
    if indexes.build(conn, space):
        log.info("the HNSW index of space %s is built (%.1f s)", space.name, time.monotonic() - began)
