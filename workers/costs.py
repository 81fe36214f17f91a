"""A worker's costs since the last heartbeat, by space and measure, for lookalike.worker_costs."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from workers.stage_timings import Count

_AGES = ("searchable", "reused", "failed", "query")


@dataclass(frozen=True, slots=True)
class Cost:
    """How many times one measure occurred in a space, and the seconds that it took in all."""

    space_id: int
    measure: str
    count: int
    seconds: float


def costs(counts: Iterable[Count], *, busy: float) -> list[Cost]:
    """Add up counts over their buckets, and split `busy`, the seconds in which the worker had work, among the spaces.

    The split follows the seconds of encoding or, if nothing was encoded, of all measures. Ages (searchable, reused,
    failed, query) have a count but no seconds, because waiting costs nothing.
    """
    sums: defaultdict[tuple[int, str], tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    for one in counts:
        count, seconds = sums[one.space_id, one.measure]
        spent = 0.0 if one.measure in _AGES else one.seconds
        sums[one.space_id, one.measure] = count + one.count, seconds + spent
    found = [Cost(space_id, measure, *values) for (space_id, measure), values in sorted(sums.items())]
    encoding = [one for one in found if one.measure == "encode"] or found
    total = sum(one.seconds for one in encoding)
    shares: defaultdict[int, float] = defaultdict(float)
    for cost in encoding:
        shares[cost.space_id] += cost.seconds / total if total else 1 / len(encoding)
    return found + [Cost(space_id, "busy", 0, busy * share) for space_id, share in shares.items()]
