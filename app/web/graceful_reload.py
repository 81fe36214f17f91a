"""A reload without a gap: processes that are replaced take requests until those that replace them are ready.

gunicorn tells the old processes to end as soon as it has forked the new ones, which then still have to make the
application and warm up; whoever connected meanwhile would wait for that.
"""

import multiprocessing
import os
import signal
import threading
import time
from types import FrameType

_PATIENCE = 10.0
_LOOK_SECONDS = 0.02


class Handover:
    """What the processes of one server know of each other; made before they are forked."""

    def __init__(self, processes: int) -> None:
        """`processes`: how many take requests."""
        self._processes = processes
        self._began = multiprocessing.Value("d", float("-inf"))
        self._ready = multiprocessing.Value("i", 0)

    def begin(self) -> None:
        """Tell the processes that they are going to be replaced; in their parent, before it forks the new ones."""
        with self._ready.get_lock():
            self._ready.value = 0
            self._began.value = time.monotonic()

    def ready(self) -> None:
        """Tell that this process can take requests; from now on, its SIGTERM waits for its successors in a handover."""
        with self._ready.get_lock():
            self._ready.value += 1
        end = signal.getsignal(signal.SIGTERM)
        told = threading.Event()

        def leave(number: int, frame: FrameType | None) -> None:
            if not self._goes_on():
                if callable(end):
                    end(number, frame)
            elif not told.is_set():  # gunicorn says it every second
                told.set()
                threading.Thread(target=leave_later, name="handover", daemon=True).start()

        def leave_later() -> None:
            while self._goes_on():
                time.sleep(_LOOK_SECONDS)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGTERM, leave)

    def _goes_on(self) -> bool:
        waited: float = time.monotonic() - self._began.value
        return waited < _PATIENCE and bool(self._ready.value < self._processes)
