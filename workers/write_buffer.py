"""Buffers outcomes of jobs, so that one statement writes many."""

import math
import time
from collections.abc import Callable, Iterable

from workers.tasks import Outcome

# How long outcomes wait for others: while the worker has more jobs in work, and while the queue has more jobs too.
_GATHER_SECONDS, _BACKLOG_GATHER_SECONDS = 0.05, 0.4


class WriteBuffer:
    """Outcomes not yet written, gathered because a statement costs nearly as much for one image as for ten."""

    def __init__(self, *, enough: int) -> None:
        """`enough`: this many jobs are written without waiting for more."""
        self._enough = enough
        self._written_at = -math.inf
        self.waiting: list[Outcome] = []

    def add(self, outcomes: Iterable[Outcome]) -> None:
        self.waiting += outcomes

    def due_at(self, *, in_work: int, backlog: bool) -> float:
        """Return when (monotonic) the jobs should be written; infinity if there are none.

        They are due at once if they are enough or all of the `in_work` claimed; else some time after the last write.
        """
        if not self.waiting:
            return math.inf
        if len(self.waiting) >= min(self._enough, in_work):
            return -math.inf
        return self._written_at + (_BACKLOG_GATHER_SECONDS if backlog else _GATHER_SECONDS)

    def due(self, *, in_work: int, backlog: bool) -> list[Outcome]:
        """Return the outcomes to write now; they stay in the buffer until `mark_written` or `remove`."""
        later = self.due_at(in_work=in_work, backlog=backlog) > time.monotonic()
        return [] if later else list(self.waiting)

    def mark_written(self, outcomes: Iterable[Outcome]) -> None:
        """Remove outcomes that have been written."""
        written = {id(one) for one in outcomes}
        if any(id(one) in written for one in self.waiting):
            self._written_at = time.monotonic()
        self.remove(lambda one: id(one) in written)

    def remove(self, condition: Callable[[Outcome], bool]) -> list[Outcome]:
        """Remove and return the outcomes for which `condition` is true."""
        removed = [one for one in self.waiting if condition(one)]
        self.waiting = [one for one in self.waiting if not condition(one)]
        return removed
