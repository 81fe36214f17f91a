"""Embeds images with the same bytes once if they are in work at the same time."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.errors import ImageError
from workers.tasks import Outcome, Task

# A space id and the SHA-256 of a file.
_Content = tuple[int, bytes]


@dataclass(slots=True)
class _Flight:
    first: Task
    followers: list[Task] = field(default_factory=list)
    outcome: Outcome | None = None


class SingleFlight:
    """Tracks the first task with its bytes from when they are fetched until its outcome is written.

    From then on the database has the embedding. It takes jobs only, because a query image must not wait for others.
    Safe in threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[_Content, _Flight] = {}
        self._firsts: dict[Task, _Content] = {}

    def join(self, task: Task, sha256: bytes) -> tuple[bool, Outcome | None]:
        """Return whether the task is the first with these bytes, and if it is not, its outcome if there is one yet.

        A task that is not the first and has no outcome yet comes out of `complete` together with the first.
        """
        content = (task.space.id, sha256)
        with self._lock:
            flight = self._flights.get(content)
            if flight is None:
                self._flights[content] = _Flight(task)
                self._firsts[task] = content
                return True, None
            if flight.outcome is None:
                flight.followers.append(task)
                return False, None
            return False, _shared(flight.outcome, task)

    def complete(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Return these outcomes and those of the tasks that wait for them."""
        settled: list[Outcome] = []
        with self._lock:
            for outcome in outcomes:
                settled.append(outcome)
                content = self._firsts.get(outcome.task)
                if content is None:
                    continue
                flight = self._flights[content]
                flight.outcome = outcome
                settled += [_shared(outcome, task) for task in flight.followers]
                flight.followers.clear()
                if isinstance(outcome.result, ImageError):  # the next task with these bytes may succeed
                    self._forget(outcome.task)
        return settled

    def forget(self, outcomes: Iterable[Outcome]) -> None:
        """Stop tracking tasks whose outcomes are written or will never be."""
        with self._lock:
            for outcome in outcomes:
                self._forget(outcome.task)

    def _forget(self, task: Task) -> None:
        content = self._firsts.pop(task, None)
        if content is not None:
            del self._flights[content]


def _shared(outcome: Outcome, task: Task) -> Outcome:
    return Outcome(task, outcome.result, outcome.facts, reused=not isinstance(outcome.result, ImageError))
