"""Server-sent events in a server of few threads: a bounded number of streams, which end when the process is to end."""

import threading
import time
from collections.abc import Callable, Iterator

# A stream ends by itself; the client comes again. No proxy then sees a connection that lasts for ever.
_LIFE_SECONDS = 120.0
_TICK_SECONDS = 0.5

_alive: Callable[[], bool] = lambda: True  # noqa: E731


def serve_while(alive: Callable[[], bool]) -> None:
    """Let the streams of this process end as soon as `alive()` is false."""
    global _alive
    _alive = alive


class Streams:
    """At most `most` streams at once, each of which says what `read` returns whenever that has changed."""

    def __init__(self, read: Callable[[], str], *, most: int, every: float) -> None:
        self._read = read
        self._every = every
        self._free = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._latest = ""

    def latest(self) -> str:
        """Return what `read` returned less than `every` seconds ago; whoever watches, it is read once."""
        with self._lock:
            if time.monotonic() - self._read_at >= self._every:
                self._latest = self._read()
                self._read_at = time.monotonic()
            return self._latest

    def open(self) -> "Stream | None":
        """Return a stream, or None where as many as may be are open."""
        return Stream(self, self._every, self._free.release) if self._free.acquire(blocking=False) else None


class Stream:
    """One stream: an iterator of event texts that gives its place back when it is closed, read or not."""

    def __init__(self, source: Streams, every: float, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave
        self._events = self._told(source, every)

    def __iter__(self) -> Iterator[str]:
        return self._events

    def close(self) -> None:
        """Give the place back; called by the WSGI server, whatever ends the answer."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def _told(self, source: Streams, every: float) -> Iterator[str]:
        ends = time.monotonic() + _LIFE_SECONDS
        told = None
        while _alive() and time.monotonic() < ends:
            latest = source.latest()
            # A comment where nothing changed: writing is how a server learns that the client has gone.
            yield ": unchanged\n\n" if latest == told else f"data: {latest}\n\n"
            told = latest
            again = min(time.monotonic() + every, ends)
            while _alive() and time.monotonic() < again:
                time.sleep(_TICK_SECONDS)
