"""Read a video in a thread: decode frames into a short buffer, and reopen a live source that breaks off."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.db.retry import backoff
from app.errors import ImageError, TransientImageError
from app.media import video
from app.media.limits import Limits
from app.media.video import Frame, Source

log = logging.getLogger(__name__)

_BUFFER = 8
_SOUND_SECONDS = 30.0
_FIRST_SECONDS, _MOST_SECONDS = 0.5, 15.0


@dataclass(slots=True)
class Counts:
    """Totals of the sampled frames: new or unchanged in the database, skipped as similar, dropped as too late."""

    new: int = 0
    unchanged: int = 0
    similar: int = 0
    dropped: int = 0
    reconnects: int = 0
    read: video.Counts = field(default_factory=video.Counts)


@dataclass(frozen=True, slots=True)
class ReadFrame:
    """A frame with its time of arrival: `at` on the monotonic clock. `seconds` go on over reconnects."""

    frame: Frame
    at: float
    seconds: float
    received_at: datetime | None


class FrameReader:
    """Decodes one video in a thread.

    If the buffer is full, the reader of a file waits, and that of a live source drops the oldest frame. If a file
    breaks off, `trouble` has the reason; if an error ends the thread, it is in `failure`.
    """

    def __init__(self, source: Source, *, fps: float, limits: Limits, counts: Counts) -> None:
        self.trouble: str | None = None
        self.failure: BaseException | None = None
        self._source, self._fps, self._limits, self._counts = source, fps, limits, counts
        self._changed = threading.Condition()
        self._buffer: deque[ReadFrame] = deque()
        self._stopped = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="video", daemon=True)

    @property
    def live(self) -> bool:
        """Whether the source never ends, as far as is known."""
        return self._source.live or self._counts.read.live

    @property
    def ended(self) -> bool:
        """Whether every frame has been taken."""
        return self._ended and not self._buffer

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after the current frame; a signal handler may call this."""
        self._stopped = True

    def join(self) -> None:
        """Stop the thread and wait for its end."""
        self._stopped = True
        with self._changed:
            self._changed.notify_all()
        self._thread.join(self._limits.timeout + 5)

    def take(self, *, wait: float, max_lag: float) -> ReadFrame | None:
        """Return the next frame, after `wait` seconds at most; None if there is none.

        Frames of a live source that have waited for more than `max_lag` seconds are dropped; 0: no bound.
        """
        with self._changed:
            if not self._buffer and not self._ended:
                self._changed.wait(wait)
            while self._buffer:
                taken = self._buffer.popleft()
                self._changed.notify_all()
                if self.live and max_lag and time.monotonic() - taken.at > max_lag:
                    self._counts.dropped += 1
                else:
                    return taken
        return None

    def _run(self) -> None:
        began = time.monotonic()
        attempt = 0
        try:
            while not self._stopped:
                opened = time.monotonic()
                reason = self._read(opened - began)
                if not self.live or self._stopped:
                    self.trouble = reason
                    return
                attempt = 0 if time.monotonic() - opened > _SOUND_SECONDS else attempt + 1
                seconds = backoff(attempt, first=_FIRST_SECONDS, most=_MOST_SECONDS)
                log.warning("%s, next try in %.1f s", reason or f"{self._source.name} ended", seconds)
                if pause(seconds, lambda: self._stopped):
                    self._counts.reconnects += 1
        except BaseException as error:  # noqa: BLE001 — FrameIngest.run raises it again
            self.failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _read(self, offset: float) -> str | None:
        """Read until the video ends or breaks off; return the reason of a break.

        Raises:
            ImageError: another try would fail in the same way.
        """
        before = self._counts.read.decoded
        offset = offset if before else 0.0
        try:
            for frame in video.frames(
                self._source,
                fps=self._fps,
                limits=self._limits,
                counts=self._counts.read,
                stop=lambda: self._stopped,
            ):
                received = datetime.now(UTC) if self.live else None
                self._put(ReadFrame(frame, time.monotonic(), frame.seconds + offset, received))
        except ImageError as error:
            if not self._counts.read.decoded and not isinstance(error, TransientImageError):
                raise
            if not self.live and self._counts.read.decoded == before:
                raise
            return error.reason
        return None

    def _put(self, taken: ReadFrame) -> None:
        with self._changed:
            while not self.live and len(self._buffer) >= _BUFFER and not self._stopped:
                self._changed.wait(0.5)
            if len(self._buffer) >= _BUFFER:
                self._buffer.popleft()
                self._counts.dropped += 1
            self._buffer.append(taken)
            self._changed.notify_all()


def pause(seconds: float, stopped: Callable[[], bool]) -> bool:
    """Sleep; return False if `stopped` became true meanwhile."""
    end = time.monotonic() + seconds
    while not stopped() and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
    return not stopped()
