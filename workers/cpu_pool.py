"""Runs the parts of a batch in parallel on a CPU, each with one torch thread."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class CpuPool:
    """Threads for the parts of a batch, which wait for no other part.

    torch itself splits each operation over all cores and spins until the slowest is done. On a machine with other load
    its median rate fell to a tenth of this pool's.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._running = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="cpu pool") if count > 1 else None

    def map(self, work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
        """Return work(part) of each part, in order. Safe in threads.

        A single part runs in the calling thread, even if the pool is busy. When all parts have ended, the first error
        is raised.
        """
        if self._pool is None:
            return [work(part) for part in parts]
        with self._lock:
            self._running += len(parts)
            # For few images on many cores: half of the free cores. The other half serves other processes.
            threads = max(1, min(4, self.count // (2 * max(1, self._running))))

        def run(part: T) -> R:
            torch.set_num_threads(threads)  # applies to this thread only
            return work(part)

        try:
            if len(parts) == 1:
                before = torch.get_num_threads()
                try:
                    return [run(parts[0])]
                finally:
                    torch.set_num_threads(before)
            futures = [self._pool.submit(run, part) for part in parts]
            errors = [future.exception() for future in futures]
        finally:
            with self._lock:
                self._running -= len(parts)
        for error in errors:
            if error is not None:
                raise error
        return [future.result() for future in futures]
