"""What happened during a run: counted, timed, and kept for the report."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be: which rule, and the evidence."""

    rule: str
    told: str


@dataclass(frozen=True, slots=True)
class Event:
    """A disturbance, or the begin and end of a phase, `at` seconds after the start."""

    at: float
    kind: str
    told: str


@dataclass(frozen=True, slots=True)
class Sample:
    """The queue at one moment: jobs and embeddings of all spaces, workers that are up, the lease longest overdue."""

    at: float
    jobs: int
    embeddings: int
    failures: int
    workers: int
    overdue: float


@dataclass
class Journal:
    """Written by every thread of the run, read at its end."""

    began: float = field(default_factory=time.monotonic)
    events: list[Event] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def note(self, kind: str, told: object = "") -> None:
        """Record a disturbance, which the plot shows, and count it."""
        with self._lock:
            self.events.append(Event(round(self.now(), 2), kind, str(told)))
            self.counts[kind] += 1

    def count(self, kind: str, by: int = 1) -> None:
        """Count what is too frequent to be listed."""
        with self._lock:
            self.counts[kind] += by

    def violate(self, rule: str, told: str) -> None:
        """Record what must never be; printed at once, since a run is long."""
        with self._lock:
            self.violations.append(Violation(rule, told))
        print(f"{self.now():7.1f}  VIOLATION  {rule}: {told}", flush=True)

    def sample(self, **values: float) -> None:
        """Record the state of the queue."""
        with self._lock:
            self.samples.append(Sample(at=round(self.now(), 2), **values))  # type: ignore[arg-type]
