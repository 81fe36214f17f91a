"""Turn a video's frames into images: sample, skip near-identical frames, store by content, register.

A thread decodes frames, and the loop writes them. If the database or the workers lag behind, a file waits; a live
source drops its oldest frames, so that recent frames become searchable in time.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from app.db import Connection
from app.db.retry import until_available
from app.errors import NoWorkerError, StorageError
from app.ingest.find import Candidate
from app.ingest.frame_reader import Counts, FrameReader, ReadFrame, pause
from app.ingest.register import Inspected, write_batch
from app.ingest.tracker import IngestTracker
from app.media import uploads, video
from app.media.header import Header
from app.media.limits import Limits
from app.media.uploads import Storage
from app.media.video import Source
from app.store import images
from app.types import Json

log = logging.getLogger(__name__)

LIVE_LAG = 60.0  # default max_lag of a live source
_POLL_SECONDS = 0.05


class FrameIngest:
    """Ingests one video. `run` returns when the video has ended or `stop` was called; a live source never ends."""

    def __init__(
        self,
        source: Source,
        *,
        fps: float,
        limits: Limits,
        storage: Storage,
        skip_similar: float = 0.0,
        max_lag: float | None = None,
    ) -> None:
        self.source = source
        self.counts = Counts()
        self.tracker = IngestTracker()
        self.trouble: str | None = None
        self._reader = FrameReader(source, fps=fps, limits=limits, counts=self.counts)
        self._storage, self._skip_similar, self._given_lag = storage, skip_similar, max_lag
        self._stopped = False
        self._last: NDArray[np.int16] | None = None  # thumbnail of the frame stored last
        self._uncommitted: ReadFrame | None = None

    @property
    def max_lag(self) -> float:
        """Seconds that frames may wait before a file pauses and a live source drops some; 0: no bound."""
        if self._given_lag is not None:
            return self._given_lag
        return LIVE_LAG if self._reader.live else 0.0

    def stop(self) -> None:
        """End `run` after the current frame."""
        self._stopped = True
        self._reader.stop()

    def run(
        self,
        connect: Callable[[], AbstractContextManager[Connection]],
        report: Callable[[], None],
        *,
        patience: float | None = None,
    ) -> None:
        """Ingest until the end. `connect` opens a connection in autocommit, and again after the database was down.

        `report` is called after every frame. With `patience`, wait at the end until the frames are searchable. If a
        file breaks off, `trouble` has the reason.

        Raises:
            ImageError: the source is not a video, or cannot be read.
            NoWorkerError: no frame became searchable for `patience` seconds.
        """
        self._reader.start()

        def session() -> None:
            with connect() as conn:
                while not self._stopped and self._step(conn):
                    report()
                if patience is not None:
                    self._wait_until_searchable(conn, report, patience)

        try:
            until_available(session, pause=self._pause)
        finally:
            self._stopped = True
            self._reader.join()
            self.trouble = self._reader.trouble
        if self._reader.failure is not None:
            raise self._reader.failure

    def _pause(self, seconds: float) -> bool:
        return pause(seconds, lambda: self._stopped)

    def _step(self, conn: Connection) -> bool:
        """Write one frame, if there is one and the workers do not lag behind; return False at the end."""
        self.tracker.poll(conn)
        if self.max_lag and self.tracker.age() > self.max_lag:
            time.sleep(_POLL_SECONDS)
            return True
        taken = self._uncommitted or self._next()
        if taken is None:
            return not self._reader.ended
        self._uncommitted = taken  # kept for another try if the database goes down
        small = video.thumbnail(taken.frame)
        if self._last is not None and video.difference(small, self._last) < self._skip_similar:
            self.counts.similar += 1
        elif self._store(conn, taken):
            self._last = small
        self._uncommitted = None
        return True

    def _next(self) -> ReadFrame | None:
        poll = self.tracker.seconds_to_poll()
        return self._reader.take(wait=0.5 if poll is None else max(poll, 0.01), max_lag=self.max_lag)

    def _store(self, conn: Connection, taken: ReadFrame) -> bool:
        """Store and register a frame, in one transaction; return False if stopped before that succeeds."""
        data, width, height = video.jpeg(taken.frame)
        sha256 = hashlib.sha256(data)
        attributes: Json = {"source": self.source.name, "frame_seconds": round(taken.seconds, 3)}
        if taken.frame.taken_at:
            attributes["taken_at"] = taken.frame.taken_at.isoformat()
        if taken.received_at:
            attributes["received_at"] = taken.received_at.isoformat()
        uri = uploads.uri_of(self._storage, sha256.hexdigest(), "image/jpeg")
        candidate = Candidate(uri, None, self.source.name, None, attributes)
        header = Header("image/jpeg", width, height)
        while True:
            try:
                with conn.transaction():
                    images.lock_upload(conn, uri)
                    uploads.put(self._storage, data, sha256=sha256.hexdigest(), media_type="image/jpeg")
                    batch = write_batch(conn, [Inspected(candidate, sha256.digest(), header)], [])
                break
            except StorageError as error:
                log.warning("%s, next try in 1 s", error)
                if not self._pause(1.0):
                    return False
        self.counts.new += batch.new
        self.counts.unchanged += batch.changed + batch.unchanged
        self.tracker.add(batch.ids)
        return True

    def _wait_until_searchable(self, conn: Connection, report: Callable[[], None], patience: float) -> None:
        left, since = self.tracker.pending, time.monotonic()
        while left and not self._stopped:
            time.sleep(_POLL_SECONDS)
            self.tracker.poll(conn)
            report()
            if self.tracker.pending < left:
                left, since = self.tracker.pending, time.monotonic()
            elif time.monotonic() - since > patience:
                raise NoWorkerError(
                    f"{left} frames wait, and none became searchable for {patience:g} s; start one: lookalike worker"
                )
