"""Goals against measurements: the choice, its costs, and the misses if no choice meets the goal."""

import pytest

from app.errors import InvalidInputError
from app.tuning import goals, pareto
from app.tuning.goals import Goal
from app.tuning.records import Measurement


def made(choice: str, *, recall: float, p95: float, size: int, qps: float = 500.0, slack: float = 0.002) -> Measurement:
    """Return a measurement of 1,000 rows with `size` bytes per image in the index and 100 in the table."""
    return Measurement(
        choice=choice,
        options={"kind": choice.split()[0]},
        rows=1000,
        k=10,
        recall=recall,
        recall_floor=max(recall - slack, 0) if recall < 1 else 1.0,
        label_precision=None,
        p50_ms=p95 * 0.6,
        p95_ms=p95,
        p99_ms=p95 * 1.5,
        p95_ceiling_ms=p95 * 1.05,
        qps={"1": qps / 2, "4": qps},
        build_seconds=3.0,
        insert_ms=1.0,
        index_bytes=size * 1000,
        table_bytes=100_000,
        memory_bytes=10**6,
        query_ms=[],
        query_recalls=[],
    )


EXACT = made("exact", recall=1.0, p95=40, size=0, qps=20)
FULL = made("hnsw m=16", recall=0.995, p95=3, size=3000)
QUICK = made("hnsw m=8", recall=0.93, p95=1, size=2500, qps=900)
SMALL = made("bits", recall=0.993, p95=5, size=150, qps=250)
BEATEN = made("hnsw m=4", recall=0.92, p95=2, size=2600)
ALL = [EXACT, FULL, QUICK, SMALL, BEATEN]


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        (Goal(recall=0.99), "hnsw m=16"),  # open: p95
        (Goal(recall=0.99, p95_ms=6), "bits"),  # open: bytes
        (Goal(recall=0.99, bytes_per_image=400), "bits"),
        (Goal(p95_ms=4), "hnsw m=16"),  # open: recall
        (Goal(p95_ms=1.5), "hnsw m=8"),
        (Goal(qps=600), "hnsw m=8"),
        (Goal(recall=1), "exact"),
        (Goal(recall=0.9, p95_ms=10, bytes_per_image=5000), "hnsw m=8"),
    ],
)
def test_the_best_choice_has_the_best_value_without_a_bound(goal: Goal, expected: str) -> None:
    found = goals.pick(ALL, goal)
    assert found.chosen is not None
    assert found.chosen.choice == expected
    assert found.promise is not None
    assert not goals.misses(found.chosen, goal)


def test_a_goal_is_met_by_proven_bounds_not_by_means() -> None:
    assert goals.pick([FULL], Goal(recall=0.993)).chosen is FULL
    found = goals.pick([FULL], Goal(recall=0.994))
    assert found.chosen is None
    assert "more queries would prove more" in found.misses[0].text
    assert goals.pick([FULL], Goal(p95_ms=3.1)).chosen is None


def test_costs_of_the_choice_and_of_the_next_best_are_listed() -> None:
    found = goals.pick(ALL, Goal(recall=0.99, bytes_per_image=400), current="hnsw m=16")
    text = "\n".join(found.given_up)
    assert "exact has" in text
    assert "hnsw m=8 takes 1.00 ms" in text
    assert "against the index in use, hnsw m=16: recall -0.0020, p95 +2.00 ms, -2,850 bytes per image" in text
    assert found.next_best is EXACT
    assert found.next_costs is not None
    assert found.next_costs.startswith("recall +0.0070, p95 +35.00 ms")


def test_if_no_choice_meets_the_goal_the_nearest_is_returned_with_its_misses() -> None:
    found = goals.pick(ALL, Goal(recall=0.99, p95_ms=4, bytes_per_image=300))
    assert found.chosen is None
    assert found.nearest is SMALL
    assert [miss.part for miss in found.misses] == ["p95"]
    assert "at most 5.25 ms" in found.misses[0].text
    found = goals.pick(ALL, Goal(qps=10_000))
    assert found.nearest is QUICK
    assert "900 queries per second" in found.misses[0].text


@pytest.mark.parametrize(
    "goal", [Goal(), Goal(recall=0), Goal(recall=1.1), Goal(p95_ms=-1), Goal(bytes_per_image=float("nan")), Goal(qps=0)]
)
def test_an_invalid_goal_raises(goal: Goal) -> None:
    with pytest.raises(InvalidInputError, match="--"):
        goals.pick(ALL, goal)


def test_no_choice_beats_one_on_a_front() -> None:
    points = {point.measured.choice: point for point in pareto.points(ALL, "bits")}
    assert [one for one in points if points[one].fast] == ["exact", "hnsw m=16", "hnsw m=8"]
    assert [one for one in points if points[one].small] == ["hnsw m=16", "bits"]
    assert [one for one in points if points[one].best] == ["exact", "hnsw m=16", "bits", "hnsw m=8"]
    assert points["bits"].current
    assert not points["exact"].current
