"""The judge of bench.soak finds every fault; so does the ground truth of bench.streaming."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.soak import judge, report
from bench.soak.clients import Search
from bench.soak.pool import Model, Pool
from bench.streaming.truth import Asked, recalls
from tests.support.gallery_data import unit

SPACES = {"one": 0, "two": 1}


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Make two models of 50 pictures with equal dimensions, so that only the numbers differ."""
    models = [Model(name, None, None, unit(50, 64, seed=n)) for n, name in enumerate(SPACES)]  # type: ignore[arg-type]
    return Pool([Path(str(n)) for n in range(50)], models)


def answer(pool: Pool, model: int, space: str = "") -> Search:
    vectors = pool.models[model].embeddings
    distances = np.linalg.norm(vectors - vectors[7], axis=1)
    nearest = np.argsort(distances)[1:11]
    found = [(int(n), float(distances[n])) for n in nearest]
    return Search(0.0, 0.001, "similar", "", space, 7, 10, found)


def test_right_answers_are_right(pool: Pool) -> None:
    for model, space in enumerate(SPACES):
        assert judge.faults(answer(pool, model, space), pool, SPACES) == []
        assert judge.faults(answer(pool, model), pool, SPACES) == [], "plain SQL names no space"


def test_every_fault_is_found(pool: Pool) -> None:
    one, two = answer(pool, 0, "one"), answer(pool, 1, "two")
    assert judge.faults(replace(one, space="two"), pool, SPACES) == ["mixed"]
    mixed = sorted(one.found[:9] + two.found[:1], key=lambda each: each[1])
    for space in ("one", "two", ""):
        assert judge.faults(replace(one, space=space, found=mixed), pool, SPACES) == ["mixed"]
    moved = [(number, distance + 0.01) for number, distance in one.found]
    assert judge.faults(replace(one, found=moved), pool, SPACES) == ["mixed"], "the query is of another space"
    assert judge.faults(replace(one, found=one.found[:9]), pool, SPACES) == ["short"]
    assert judge.faults(replace(one, found=one.found[::-1]), pool, SPACES) == ["unordered"]
    assert judge.faults(replace(one, error="lost", found=[]), pool, SPACES) == ["error"]
    assert judge.apart([one, two], pool) > 10 * judge.TOLERANCE
    counts, examples = judge.count([one, replace(two, found=mixed)], pool, SPACES)
    assert (counts["mixed"], counts["short"], len(examples)) == (1, 0, 1)


def test_an_operation_is_measured_against_the_calm_before_it() -> None:
    operations = [{"name": "x", "before": 0.0, "began": 10.0, "ended": 20.0}]
    searches = [[n / 10, 2.0 if n < 100 else 5.0, "similar"] for n in range(300)]
    searches += [[9.99, 500.0, "similar"]]  # began before, ended within
    (row,) = report.per_operation(operations, sorted(searches))
    assert (row["p50_before"], row["p50_during"], row["max_during"], row["times"]) == (2.0, 5.0, 500.0, 1)


def test_recall_counts_ties_and_what_the_snapshot_held() -> None:
    vectors = unit(300, 16)
    vectors[5] = vectors[4]
    queries = unit(1, 16, seed=1)
    visible = np.arange(200)
    order = visible[np.argsort(np.linalg.norm(vectors[visible] - queries[0], axis=1))]
    for k in (10, 100):
        right = [Asked(0, k, order[:k].tolist(), visible) for k in (10, 100)]
        assert recalls(right, vectors, queries)[f"recall_at_{k}"]["mean"] == 1
    lost = [Asked(0, 10, [*order[:8].tolist(), *order[100:102].tolist()], visible), *right[1:]]
    assert recalls(lost, vectors, queries)["recall_at_10"]["mean"] == pytest.approx(0.8)
    with pytest.raises(ValueError, match="does not show"):
        recalls([Asked(0, 10, [250], visible), *right[1:]], vectors, queries)
