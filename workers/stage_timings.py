"""Durations of the worker's stages, in total and as histograms. Many threads add to them."""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Bucket k ends at 0.001 · 2^(k/4) seconds: from a millisecond to twelve days in steps of 19 %. lookalike.latency_bound
# has the same formula.
_FIRST_BOUND, _PER_DOUBLING, _LAST_BUCKET = 0.001, 4, 120


@dataclass(frozen=True, slots=True)
class Count:
    """A bucket of a histogram: `count` durations of one measure in one space, `seconds` in all."""

    space_id: int
    measure: str
    bucket: int
    count: int
    seconds: float


def bucket_of(seconds: float) -> int:
    """Return the number of the first bucket that ends at or after `seconds`; the last one has no end."""
    if seconds <= _FIRST_BOUND:
        return 0
    return min(math.ceil(_PER_DOUBLING * math.log2(seconds / _FIRST_BOUND)), _LAST_BUCKET)


class Timings:
    """Seconds by stage, for the log, and counts by space, measure and bucket, for the database.

    Stages: claim, fetch, lookup (of existing embeddings), decode (with the transform), encode, write. End to end:
    searchable (from the insert to the committed embedding), reused (the part of these without encoding), failed (from
    the insert), query (from the request to the answer).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._counts: dict[tuple[int, str, int], tuple[int, float]] = {}

    def add(self, stage: str, seconds: float, space_id: int | None = None) -> None:
        """Add the seconds of a stage; without a space they go to the log only."""
        with self._lock:
            self._seconds[stage] += seconds
            if space_id is not None:
                self._count(space_id, stage, bucket_of(seconds), 1, seconds)

    def note(self, measure: str, space_id: int, seconds: Iterable[float]) -> None:
        """Count end-to-end durations, which the log does not show."""
        with self._lock:
            for each in seconds:
                self._count(space_id, measure, bucket_of(each), 1, each)

    @contextmanager
    def measure(self, stage: str, space_id: int | None = None) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - began, space_id)

    def take(self) -> dict[str, float]:
        """Return the seconds of each stage since the last call."""
        with self._lock:
            taken, self._seconds = self._seconds, defaultdict(float)
        return dict(taken)

    def take_counts(self) -> list[Count]:
        """Return the counts since the last call, in the order of their keys."""
        with self._lock:
            taken, self._counts = self._counts, {}
        return [Count(*key, *values) for key, values in sorted(taken.items())]

    def give_back(self, counts: Iterable[Count]) -> None:
        """Add counts that could not be stored to those of the next call."""
        with self._lock:
            for one in counts:
                self._count(one.space_id, one.measure, one.bucket, one.count, one.seconds)

    def _count(self, space_id: int, measure: str, bucket: int, count: int, seconds: float) -> None:
        counted, spent = self._counts.get((space_id, measure, bucket), (0, 0.0))
        self._counts[space_id, measure, bucket] = counted + count, spent + seconds
