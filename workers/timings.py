"""Seconds spent in each stage, added up by many threads. Imports nothing of the project."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Timings:
    """Seconds by stage: claim, load (in all load threads together), load wait, encode, write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._seconds[stage] += seconds

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - began)

    def take(self) -> dict[str, float]:
        """Return the seconds of each stage since the last call."""
        with self._lock:
            taken, self._seconds = self._seconds, defaultdict(float)
        return dict(taken)
