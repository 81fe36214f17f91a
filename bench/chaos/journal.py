"""The journal of a run: events, samples, violations and counts."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule and the evidence."""

    rule: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Event:
    """A disturbance, or the begin or end of a phase, `at` seconds after the start."""

    at: float
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Sample:
    """The queue at one moment: jobs and embeddings of all spaces, running workers, longest overdue lease."""

    at: float
    jobs: int
    embeddings: int
    failures: int
    workers: int
    overdue: float


@dataclass
class Journal:
    """Every thread of the run writes it; the report reads it at the end."""

    began: float = field(default_factory=time.monotonic)
    events: list[Event] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.began

    def note(self, kind: str, detail: object = "") -> None:
        """Record a disturbance, which the plot shows, and count it."""
        with self._lock:
            self.events.append(Event(round(self.now(), 2), kind, str(detail)))
            self.counts[kind] += 1

    def count(self, kind: str, by: int = 1) -> None:
        """Count something too frequent to list."""
        with self._lock:
            self.counts[kind] += by

    def violate(self, rule: str, evidence: str) -> None:
        """Record a violation and print it at once, because a run is long."""
        with self._lock:
            self.violations.append(Violation(rule, evidence))
        print(f"{self.now():7.1f}  VIOLATION  {rule}: {evidence}", flush=True)

    def sample(self, **values: float) -> None:
        """Record the state of the queue."""
        with self._lock:
            self.samples.append(Sample(at=round(self.now(), 2), **values))  # type: ignore[arg-type]
