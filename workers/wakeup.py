"""Wakes a thread that waits on a socket, from another thread or a signal handler."""

import selectors
import socket
from contextlib import suppress


class Wakeup:
    """An event that one thread waits for and any thread sets."""

    def __init__(self) -> None:
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)

    def set(self) -> None:
        """End the current or the next `wait`. Safe in signal handlers."""
        with suppress(OSError):  # already set many times, or closed
            self._outer.send(b"\0")

    def wait(self, seconds: float, *, descriptor: int | None = None) -> bool:
        """Wait until `set`, until `descriptor` is readable, or for `seconds`; return False if the time was up."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._inner, selectors.EVENT_READ)
            if descriptor is not None:
                selector.register(descriptor, selectors.EVENT_READ)
            ready = selector.select(max(0.0, seconds))
        with suppress(BlockingIOError):
            self._inner.recv(4096)
        return bool(ready)

    def close(self) -> None:
        self._inner.close()
        self._outer.close()
