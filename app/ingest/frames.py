"""Turns a video's frames into images: sampled, near-identical ones left out, stored by content, registered.

A thread decodes into a short buffer; the loop writes. A file waits where the database or the workers are behind; of a
live source the oldest frames are dropped, so that what is searchable is what can be seen now.
"""

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from app.db import Connection
from app.db.retry import backoff, until_available
from app.errors import ImageError, NoWorkerError, StorageError, TransientImageError
from app.ingest.find import Candidate
from app.ingest.register import Inspected, write_batch
from app.ingest.tracker import IngestTracker
from app.media import uploads, video
from app.media.header import Header
from app.media.limits import Limits
from app.media.uploads import Storage
from app.media.video import Frame, Source
from app.store import images
from app.types import Json

log = logging.getLogger(__name__)

_BUFFER = 8
_LOOK_SECONDS = 0.05
_SOUND_SECONDS = 30.0
_FIRST_SECONDS, _MOST_SECONDS = 0.5, 15.0
LIVE_LAG = 60.0  # of a source that goes on for ever, where nothing else is said


@dataclass(slots=True)
class Counts:
    """What became of the frames sampled: in the database new or as before, left out as similar, dropped as too late."""

    new: int = 0
    unchanged: int = 0
    similar: int = 0
    dropped: int = 0
    reconnects: int = 0
    read: video.Counts = field(default_factory=video.Counts)


@dataclass(frozen=True, slots=True)
class _Taken:
    frame: Frame
    at: float
    seconds: float
    received_at: datetime | None


class FrameIngest:
    """Ingests one video. `run` returns when it has ended, or `stop` was called; a live one does not end by itself."""

    def __init__(
        self,
        source: Source,
        *,
        fps: float,
        limits: Limits,
        place: Storage,
        skip_similar: float = 0.0,
        max_lag: float | None = None,
    ) -> None:
        self.source = source
        self.counts = Counts()
        self.tracker = IngestTracker()
        self.trouble: str | None = None
        self._fps, self._limits, self._place = fps, limits, place
        self._skip_similar, self._given_lag = skip_similar, max_lag
        self._stopped = False
        self._changed = threading.Condition()
        self._buffer: deque[_Taken] = deque()
        self._ended = False
        self._failure: BaseException | None = None
        self._last: NDArray[np.int16] | None = None
        self._held: _Taken | None = None

    @property
    def live(self) -> bool:
        """Whether the source goes on for ever, as far as is known."""
        return self.source.live or self.counts.read.live

    @property
    def max_lag(self) -> float:
        """Seconds that frames may wait before a file pauses and a live source drops some; 0: no bound."""
        if self._given_lag is not None:
            return self._given_lag
        return LIVE_LAG if self.live else 0.0

    def stop(self) -> None:
        """Let `run` end after the frame in hand."""
        self._stopped = True

    def run(
        self,
        connect: Callable[[], AbstractContextManager[Connection]],
        tell: Callable[[], None],
        *,
        patience: float | None = None,
    ) -> None:
        """Ingest until the end. `connect` opens a connection in autocommit, again after the database was away.

        `tell` is called often. `patience`: wait at the end until the frames are searchable, NoWorkerError after so many
        seconds in which none became so. A file that breaks off leaves its `trouble`; one that is no video raises.
        """
        reader = threading.Thread(target=self._read, name="video", daemon=True)
        reader.start()

        def session() -> None:
            with connect() as conn:
                while not self._stopped and self._step(conn):
                    tell()
                if patience is not None:
                    self._drain(conn, tell, patience)

        try:
            until_available(session, pause=self._pause)
        finally:
            self._stopped = True
            with self._changed:
                self._changed.notify_all()
            reader.join(self._limits.timeout + 5)
        if self._failure is not None:
            raise self._failure

    # The reading thread

    def _read(self) -> None:
        began = time.monotonic()
        attempt = 0
        try:
            while not self._stopped:
                opened = time.monotonic()
                reason = self._read_once(opened - began)
                if not self.live or self._stopped:
                    self.trouble = reason
                    return
                attempt = 0 if time.monotonic() - opened > _SOUND_SECONDS else attempt + 1
                seconds = backoff(attempt, first=_FIRST_SECONDS, most=_MOST_SECONDS)
                log.warning("%s, next try in %.1f s", reason or f"{self.source.name} ended", seconds)
                if self._pause(seconds):
                    self.counts.reconnects += 1
        except BaseException as error:  # noqa: BLE001 — raised again by run
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _read_once(self, offset: float) -> str | None:
        """Read until the video ends or breaks off, and return why; what will fail again the same way raises."""
        before = self.counts.read.decoded
        offset = offset if before else 0.0
        try:
            for frame in video.frames(
                self.source,
                fps=self._fps,
                limits=self._limits,
                counts=self.counts.read,
                stop=lambda: self._stopped,
            ):
                received = datetime.now(UTC) if self.live else None
                self._put(_Taken(frame, time.monotonic(), frame.seconds + offset, received))
        except ImageError as error:
            if not self.counts.read.decoded and not isinstance(error, TransientImageError):
                raise
            if not self.live and self.counts.read.decoded == before:
                raise
            return error.reason
        return None

    def _put(self, taken: _Taken) -> None:
        with self._changed:
            while not self.live and len(self._buffer) >= _BUFFER and not self._stopped:
                self._changed.wait(0.5)
            if len(self._buffer) >= _BUFFER:
                self._buffer.popleft()
                self.counts.dropped += 1
            self._buffer.append(taken)
            self._changed.notify_all()

    # The loop

    def _step(self, conn: Connection) -> bool:
        """Write one frame, if there is one and the queue is not behind; False at the end."""
        self.tracker.poll(conn)
        if self.max_lag and self.tracker.age() > self.max_lag:
            time.sleep(_LOOK_SECONDS)
            return True
        taken = self._held or self._next()
        if taken is None:
            return not (self._ended and not self._buffer)
        self._held = taken  # until it is committed: the database may go away
        small = video.thumbnail(taken.frame)
        if self._last is not None and video.difference(small, self._last) < self._skip_similar:
            self.counts.similar += 1
        elif self._store(conn, taken):
            self._last = small
        self._held = None
        return True

    def _next(self) -> _Taken | None:
        with self._changed:
            if not self._buffer and not self._ended:
                look = self.tracker.seconds_to_poll()
                self._changed.wait(0.5 if look is None else max(look, 0.01))
            while self._buffer:
                taken = self._buffer.popleft()
                self._changed.notify_all()
                if self.live and self.max_lag and time.monotonic() - taken.at > self.max_lag:
                    self.counts.dropped += 1
                else:
                    return taken
        return None

    def _store(self, conn: Connection, taken: _Taken) -> bool:
        data, width, height = video.jpeg(taken.frame)
        sha256 = hashlib.sha256(data)
        attributes: Json = {"source": self.source.name, "frame_seconds": round(taken.seconds, 3)}
        if taken.frame.taken_at:
            attributes["taken_at"] = taken.frame.taken_at.isoformat()
        if taken.received_at:
            attributes["received_at"] = taken.received_at.isoformat()
        uri = uploads.uri_of(self._place, sha256.hexdigest(), "image/jpeg")
        candidate = Candidate(uri, None, self.source.name, None, attributes)
        header = Header("image/jpeg", width, height)
        while True:
            try:
                with conn.transaction():
                    images.lock_upload(conn, uri)
                    uploads.put(self._place, data, sha256=sha256.hexdigest(), media_type="image/jpeg")
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

    def _drain(self, conn: Connection, tell: Callable[[], None], patience: float) -> None:
        left, since = self.tracker.pending, time.monotonic()
        while left and not self._stopped:
            time.sleep(_LOOK_SECONDS)
            self.tracker.poll(conn)
            tell()
            if self.tracker.pending < left:
                left, since = self.tracker.pending, time.monotonic()
            elif time.monotonic() - since > patience:
                raise NoWorkerError(
                    f"{left} frames wait, and none became searchable for {patience:g} s; start one: lookalike worker"
                )

    def _pause(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self._stopped and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return not self._stopped
