"""Pick the measured choice that meets a goal, with its promise.

A choice meets a goal if the bounds of its measurement do: the floor of its recall and the ceiling of its p95 (see
`app.tuning.metrics`), not the measured means. So the promise holds for other queries of the same kind.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.errors import InvalidInputError
from app.tuning.records import Measurement

# Throughput has no confidence bound, so this share of the measured value is promised.
_QPS_MARGIN = 0.9
# Choices this close in one criterion are compared by the next.
_TOLERANCE = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Bounds to meet; None: no bound. `recall` and `qps` are minima, `p95_ms` and `bytes_per_image` maxima."""

    recall: float | None = None
    p95_ms: float | None = None
    bytes_per_image: float | None = None
    qps: float | None = None

    def checked(self) -> "Goal":
        """Return this goal.

        Raises:
            InvalidInputError: the goal has no bound, or one out of range.
        """
        if all(value is None for value in (self.recall, self.p95_ms, self.bytes_per_image, self.qps)):
            raise InvalidInputError(
                "the goal is empty: pass at least one of --recall, --p95-ms, --bytes-per-image, --qps"
            )
        if self.recall is not None and not 0 < self.recall <= 1:
            raise InvalidInputError(f"--recall {self.recall:g} is not valid: pass a number above 0, up to 1")
        for name, value in (("p95-ms", self.p95_ms), ("bytes-per-image", self.bytes_per_image), ("qps", self.qps)):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InvalidInputError(f"--{name} {value:g} is not valid: pass a number above 0")
        return self


@dataclass(frozen=True, slots=True)
class Promise:
    """Bounds that a choice will keep by its measurement: least recall, greatest p95, least queries per second."""

    recall: float
    p95_ms: float
    bytes_per_image: float
    qps: float
    k: int
    rows: int


@dataclass(frozen=True, slots=True)
class Miss:
    """A bound of a goal that a choice misses, by `factor`; `text` describes it."""

    part: str
    factor: float
    text: str


@dataclass(frozen=True, slots=True)
class Pick:
    """The choice for a goal; if none meets it, `chosen` is None, and `nearest` misses the goal by `misses`.

    `given_up` compares the choice with the best in each respect and with the index in use. `next_best` is another
    choice that meets the goal, and `next_costs` compares it with the chosen one.
    """

    goal: Goal
    chosen: Measurement | None
    promise: Promise | None
    given_up: list[str]
    next_best: Measurement | None
    next_costs: str | None
    nearest: Measurement | None
    misses: list[Miss]


def promise_of(one: Measurement) -> Promise:
    """Return the promise that follows from a measurement."""
    return Promise(
        one.recall_floor, one.p95_ceiling_ms, one.bytes_per_image, one.best_qps * _QPS_MARGIN, one.k, one.rows
    )


def pick(measured: Sequence[Measurement], goal: Goal, *, current: str | None = None) -> Pick:
    """Return the best choice that meets the goal.

    The best has the best value in the first criterion without a bound: recall, then p95, then bytes; p95 if all have
    bounds. Choices within 3 % of each other are compared by the next criterion.

    Raises:
        InvalidInputError: the goal is not valid, or nothing was measured.
    """
    goal = goal.checked()
    if not measured:
        raise InvalidInputError("nothing was measured yet; measure: lookalike tradeoffs")
    meeting = [one for one in measured if not misses(one, goal)]
    if not meeting:
        nearest = min(measured, key=lambda one: sum(math.log(miss.factor) for miss in misses(one, goal)))
        return Pick(goal, None, None, [], None, None, nearest, misses(nearest, goal))
    ranked = _ranked(meeting, goal)
    chosen = ranked[0]
    following = ranked[1] if len(ranked) > 1 else None
    return Pick(
        goal,
        chosen,
        promise_of(chosen),
        _given_up(chosen, measured, next((one for one in measured if one.choice == current), None)),
        following,
        None if following is None else difference(following, chosen),
        None,
        [],
    )


def misses(one: Measurement, goal: Goal) -> list[Miss]:
    """Return the bounds of the goal that this choice misses."""
    promised = promise_of(one)
    found = []
    if goal.recall is not None and promised.recall < goal.recall:
        # The factor is that of 1 - recall: from 0.98 to 0.99, half of the misses must go.
        factor = (1 - promised.recall) / max(1 - goal.recall, 1e-4)
        text = f"recall is {one.recall:.4f}, but only {promised.recall:.4f} is proven by these queries"
        if one.recall >= goal.recall:
            text += " (more queries would prove more: lookalike tradeoffs --query-count)"
        found.append(Miss("recall", max(factor, 1.0001), text))
    for part, have, most, shown in (
        (
            "p95",
            promised.p95_ms,
            goal.p95_ms,
            f"p95 is {one.p95_ms:.2f} ms, proven is at most {promised.p95_ms:.2f} ms",
        ),
        ("bytes", promised.bytes_per_image, goal.bytes_per_image, f"an image takes {one.bytes_per_image:,.0f} bytes"),
    ):
        if most is not None and have > most:
            found.append(Miss(part, have / most, f"{shown}"))
    if goal.qps is not None and promised.qps < goal.qps:
        text = f"{one.best_qps:,.0f} queries per second, {promised.qps:,.0f} less a margin of a tenth"
        found.append(Miss("qps", goal.qps / max(promised.qps, 1e-9), text))
    return found


def _ranked(meeting: Sequence[Measurement], goal: Goal) -> list[Measurement]:
    costs: dict[str, Callable[[Measurement], float]] = {
        "recall": lambda one: 1 - one.recall + 1e-4,
        "p95": lambda one: one.p95_ceiling_ms,
        "bytes": lambda one: one.bytes_per_image,
    }
    given = {"recall": goal.recall, "p95": goal.p95_ms, "bytes": goal.bytes_per_image}
    open_ = [name for name in costs if given[name] is None] or ["p95"]
    order = [*open_, *(name for name in ("p95", "bytes", "recall") if name not in open_)]

    left, ranked = list(meeting), []
    while left:
        best = left
        for name in order:
            least = min(costs[name](one) for one in best)
            best = [one for one in best if costs[name](one) <= least * (1 + _TOLERANCE)]
        ranked.append(best[0])
        left.remove(best[0])
    return ranked


def _given_up(chosen: Measurement, measured: Sequence[Measurement], current: Measurement | None) -> list[str]:
    lines = []
    best_recall = max(measured, key=lambda one: (one.recall, -one.p50_ms))
    if best_recall.recall > chosen.recall + 5e-4:
        lines.append(
            f"recall {chosen.recall:.4f}: {best_recall.recall - chosen.recall:.4f} less than {best_recall.choice} has, "
            f"at a p95 of {best_recall.p95_ms:.2f} ms"
        )
    fastest = min(measured, key=lambda one: one.p95_ms)
    if fastest.p95_ms < chosen.p95_ms * (1 - _TOLERANCE):
        lines.append(
            f"p95 {chosen.p95_ms:.2f} ms: {fastest.choice} takes {fastest.p95_ms:.2f} ms, "
            f"at recall {fastest.recall:.4f}"
        )
    smallest = min(measured, key=lambda one: (one.bytes_per_image, one.p95_ms))
    if smallest.bytes_per_image < chosen.bytes_per_image * (1 - _TOLERANCE):
        lines.append(
            f"{chosen.bytes_per_image:,.0f} bytes per image: {smallest.choice} takes {smallest.bytes_per_image:,.0f}, "
            f"at a p95 of {smallest.p95_ms:.2f} ms"
        )
    if current is not None and current.choice != chosen.choice:
        lines.append(f"against the index in use, {current.choice}: {difference(chosen, current)}")
    return lines


def difference(one: Measurement, other: Measurement) -> str:
    """Return the differences `one` minus `other` as text."""
    parts = [
        f"recall {one.recall - other.recall:+.4f}",
        f"p95 {one.p95_ms - other.p95_ms:+.2f} ms",
        f"{one.bytes_per_image - other.bytes_per_image:+,.0f} bytes per image",
    ]
    if one.build_seconds and other.build_seconds:
        parts.append(f"build {one.build_seconds - other.build_seconds:+.1f} s")
    return ", ".join(parts)
