"""Runs the parts of a batch side by side, one thread of torch's own each."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class CpuPool:
    """Threads for the parts of a batch on a CPU.

    torch's own way, all cores on one operation after the other, waits for the slowest core at each of them, spinning
    meanwhile: on a machine with other load its median rate fell to a tenth of the lanes'. A lane waits for no other.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._at_work = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="lane") if count > 1 else None

    def map(self, work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
        """Return work(part) of each part, in order; raises what the first of them raised, when all have ended.

        May be called by several threads. A single part is done in the calling thread, beside whatever is in the lanes;
        of several, what comes later goes to the next free lane.
        """
        if self._pool is None:
            return [work(part) for part in parts]
        with self._lock:
            self._at_work += len(parts)
            # Half of the cores that lanes leave free, for few images on many cores; the others serve who else runs.
            threads = max(1, min(4, self.count // (2 * max(1, self._at_work))))

        def run(part: T) -> R:
            torch.set_num_threads(threads)  # of this thread only
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
                self._at_work -= len(parts)
        for error in errors:
            if error is not None:
                raise error
        return [future.result() for future in futures]
