"""Outcomes of jobs on their way to the database: in company."""

import math
import time
from collections.abc import Callable, Iterable

from workers.tasks import Outcome

# So long outcomes are gathered while the worker has more in hand, and while the queue holds still more.
_GATHER_SECONDS, _BACKLOG_GATHER_SECONDS = 0.05, 0.4


class WriteBuffer:
    """Outcomes not yet written. A statement costs nearly as much for one image as for ten."""

    def __init__(self, *, enough: int) -> None:
        """`enough`: so many jobs are written without waiting for more."""
        self._enough = enough
        self._written_at = -math.inf
        self.waiting: list[Outcome] = []

    def add(self, outcomes: Iterable[Outcome]) -> None:
        self.waiting += outcomes

    def due_at(self, *, in_work: int, backlog: bool) -> float:
        """Return from when (monotonic) jobs should be written: now where they are all of the `in_work` claimed, or
        enough; else some time after the last were written. Without any: never."""
        if not self.waiting:
            return math.inf
        if len(self.waiting) >= min(self._enough, in_work):
            return -math.inf
        return self._written_at + (_BACKLOG_GATHER_SECONDS if backlog else _GATHER_SECONDS)

    def due(self, *, in_work: int, backlog: bool) -> list[Outcome]:
        """Return what should be written now; it stays here until `remove`."""
        later = self.due_at(in_work=in_work, backlog=backlog) > time.monotonic()
        return [] if later else list(self.waiting)

    def note_written(self, outcomes: Iterable[Outcome]) -> None:
        """Take these out: they have been written."""
        written = {id(one) for one in outcomes}
        if any(id(one) in written for one in self.waiting):
            self._written_at = time.monotonic()
        self.remove(lambda one: id(one) in written)

    def remove(self, condition: Callable[[Outcome], bool]) -> list[Outcome]:
        """Take out, and return, those for which `condition` is true."""
        removed = [one for one in self.waiting if condition(one)]
        self.waiting = [one for one in self.waiting if not condition(one)]
        return removed
