"""Images with the same bytes that are in work at one time: one is embedded for all."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.errors import ImageError
from workers.tasks import Outcome, Task

# A space, and the SHA-256 of a file.
_Content = tuple[int, bytes]


@dataclass(slots=True)
class _Flight:
    first: Task
    followers: list[Task] = field(default_factory=list)
    outcome: Outcome | None = None


class SingleFlight:
    """Keeps who is first with its bytes, from when they are fetched until its outcome is written: by then the database
    knows the embedding. Jobs only, since a query image waits for nobody. Safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[_Content, _Flight] = {}
        self._firsts: dict[Task, _Content] = {}

    def join(self, task: Task, sha256: bytes) -> tuple[bool, Outcome | None]:
        """Tell whether the task is the first with these bytes, and else its outcome, where that is known.

        One that is not the first and has no outcome yet comes out of `complete`, with the first.
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
        """Return these outcomes and those of the tasks that waited for them."""
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
                if isinstance(outcome.result, ImageError):  # the next with these bytes may have more luck
                    self._forget(outcome.task)
        return settled

    def forget(self, outcomes: Iterable[Outcome]) -> None:
        """Take note that these are written, or will never be."""
        with self._lock:
            for outcome in outcomes:
                self._forget(outcome.task)

    def _forget(self, task: Task) -> None:
        content = self._firsts.pop(task, None)
        if content is not None:
            del self._flights[content]


def _shared(outcome: Outcome, task: Task) -> Outcome:
    return Outcome(task, outcome.result, outcome.facts, reused=not isinstance(outcome.result, ImageError))
