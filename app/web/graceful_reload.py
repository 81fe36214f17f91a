"""Reload without downtime: old processes accept requests until the new ones are ready.

gunicorn stops the old processes as soon as it has forked the new ones. These still have to create the application and
warm up, and clients that connect in between would wait.
"""

import multiprocessing
import os
import signal
import threading
import time
from types import FrameType

_MAX_SECONDS = 10.0
_POLL_SECONDS = 0.02


class Handover:
    """State shared by the processes of one server; create it before they are forked."""

    def __init__(self, processes: int) -> None:
        """`processes`: how many of them accept requests."""
        self._processes = processes
        self._began = multiprocessing.Value("d", float("-inf"))
        self._ready = multiprocessing.Value("i", 0)

    def begin(self) -> None:
        """Start a handover; called in the parent before it forks the new processes."""
        with self._ready.get_lock():
            self._ready.value = 0
            self._began.value = time.monotonic()

    def ready(self) -> None:
        """Count this process as ready. During a later handover, its SIGTERM waits for the new processes."""
        with self._ready.get_lock():
            self._ready.value += 1
        original = signal.getsignal(signal.SIGTERM)
        waiting = threading.Event()

        def terminate(number: int, frame: FrameType | None) -> None:
            if not self._in_progress():
                if callable(original):
                    original(number, frame)
            elif not waiting.is_set():  # gunicorn repeats the signal every second
                waiting.set()
                threading.Thread(target=terminate_later, name="handover", daemon=True).start()

        def terminate_later() -> None:
            while self._in_progress():
                time.sleep(_POLL_SECONDS)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGTERM, terminate)

    def _in_progress(self) -> bool:
        elapsed: float = time.monotonic() - self._began.value
        return elapsed < _MAX_SECONDS and bool(self._ready.value < self._processes)
