"""Server-sent events: a limited number of streams, because each occupies a thread; they end with the process."""

import threading
import time
from collections.abc import Callable, Iterator

# A stream ends after this time and the client reconnects, because some proxies cut longer connections.
_LIFE_SECONDS = 120.0
_TICK_SECONDS = 0.5

_alive: Callable[[], bool] = lambda: True  # noqa: E731


def serve_while(alive: Callable[[], bool]) -> None:
    """End the streams of this process as soon as `alive()` returns false."""
    global _alive
    _alive = alive


class EventStreams:
    """At most `limit` concurrent streams. Each sends the result of `read` when it changes, every `interval` seconds."""

    def __init__(self, read: Callable[[], str], *, limit: int, interval: float) -> None:
        self._read = read
        self._interval = interval
        self._free = threading.BoundedSemaphore(limit)
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._latest = ""

    def latest(self) -> str:
        """Return the result of `read`, at most `interval` seconds old; all streams share it."""
        with self._lock:
            if time.monotonic() - self._read_at >= self._interval:
                self._latest = self._read()
                self._read_at = time.monotonic()
            return self._latest

    def open(self) -> "EventStream | None":
        """Return a stream, or None if the limit is reached."""
        return EventStream(self, self._interval, self._free.release) if self._free.acquire(blocking=False) else None


class EventStream:
    """One stream: an iterator of event texts, which frees its slot when it is closed."""

    def __init__(self, source: EventStreams, interval: float, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release
        self._events = self._generate(source, interval)

    def __iter__(self) -> Iterator[str]:
        return self._events

    def close(self) -> None:
        """Free the slot; the WSGI server calls this when the response ends, for whatever reason."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def _generate(self, source: EventStreams, interval: float) -> Iterator[str]:
        end = time.monotonic() + _LIFE_SECONDS
        sent = None
        while _alive() and time.monotonic() < end:
            latest = source.latest()
            # Send a comment if nothing has changed, because only a write detects that the client is gone.
            yield ": unchanged\n\n" if latest == sent else f"data: {latest}\n\n"
            sent = latest
            due = min(time.monotonic() + interval, end)
            while _alive() and time.monotonic() < due:
                time.sleep(_TICK_SECONDS)
