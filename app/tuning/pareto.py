"""Find the measured choices on the Pareto fronts: those that no other choice beats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.tuning.records import Measurement


@dataclass(frozen=True, slots=True)
class Point:
    """A measured choice; `current`: it is in use.

    `fast`: no other has as much recall at a lower p50; `small`: no other with an index has as much in fewer bytes;
    `best`: no other is as good or better in recall, p50 and bytes together.
    """

    measured: Measurement
    current: bool
    fast: bool
    small: bool
    best: bool


def points(measured: Sequence[Measurement], current: str | None) -> list[Point]:
    """Return all choices with their flags, highest recall first, then fastest first."""
    fast = _front(measured, lambda one: (-one.recall, one.p50_ms))
    indexed = [one for one in measured if one.options.get("kind") != "exact"]
    small = _front(indexed, lambda one: (-one.recall, one.bytes_per_image))
    best = _front(measured, lambda one: (-one.recall, one.p50_ms, one.bytes_per_image))
    found = [
        Point(one, one.choice == current, one.choice in fast, one.choice in small, one.choice in best)
        for one in measured
    ]
    return sorted(found, key=lambda point: (-point.measured.recall, point.measured.p50_ms))


def _front(measured: Sequence[Measurement], cost: Callable[[Measurement], tuple[float, ...]]) -> set[str]:
    """Return the choices that no other matches in every cost and beats in at least one."""
    costs = {one.choice: cost(one) for one in measured}
    return {
        name
        for name, own in costs.items()
        if not any(all(a <= b for a, b in zip(other, own, strict=True)) and other != own for other in costs.values())
    }
