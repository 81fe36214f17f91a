"""Exact neighbours over parts, tie-aware recall, and the coverage of confidence bounds."""

import math

import numpy as np
import pytest

from app.tuning.metrics import EPSILON, Exact, Truth, label_precision, quantile_ceiling, recall_floor
from tests.support.gallery_data import as_stored, distances, unit


@pytest.mark.parametrize("parts", [1, 3, 40])
def test_exact_neighbours_over_parts_are_those_of_brute_force_with_all_ties(parts: int) -> None:
    vectors = unit(400, 6, seed=1)
    vectors[100:160] = vectors[7]  # sixty duplicates
    vectors[200:220] = as_stored(vectors[9] + 0.0004)  # and twenty near-duplicates
    queries = np.r_[unit(5, 6, seed=2), vectors[[7, 9]]]
    ids = np.random.default_rng(3).permutation(400).astype(np.int64) + 1000
    exact = Exact(queries, 10)
    for part in np.array_split(np.arange(400), parts):
        exact.add(ids[part], vectors[part])
    exact.add(np.empty(0, np.int64), np.empty((0, 6), np.float32))
    for query, truth in zip(queries, exact.truths(), strict=True):
        real = distances(vectors, query)
        within = set(ids[real <= np.sort(real)[9] + EPSILON].tolist())
        assert truth.k == 10
        assert truth.accepted == within
    assert len(exact.truths()[5].accepted) >= 61


def test_recall_counts_any_tied_id_and_no_id_twice() -> None:
    truth = Truth(3, frozenset({1, 2, 3, 4}))
    assert truth.recall([4, 2, 1]) == 1
    assert truth.recall([1, 1, 1]) == pytest.approx(1 / 3)
    assert truth.recall([1, 9, 8]) == pytest.approx(1 / 3)
    assert truth.recall([1, 2, 3, 4]) == 1
    assert truth.recall([]) == 0
    assert Truth(0, frozenset()).recall([]) == 1


def test_with_fewer_rows_than_k_all_rows_are_true_neighbours() -> None:
    exact = Exact(unit(1, 4), 10)
    exact.add(np.arange(3), unit(3, 4, seed=5))
    (truth,) = exact.truths()
    assert truth.k == 3
    assert truth.recall([0, 1, 2]) == 1


def test_label_precision_skips_queries_without_the_label() -> None:
    labels = {1: "a", 2: "a", 3: "b"}
    assert label_precision([[1, 2, 3, 4], [1]], labels, ["a", None]) == 0.5
    assert math.isnan(label_precision([[1]], labels, [None]))


def test_bounds_hold_for_nineteen_of_twenty_samples() -> None:
    rng = np.random.default_rng(11)
    # Realistic recalls: most are perfect, a few are bad.
    kinds = np.array([1.0, 0.9, 0.8, 0.4])
    chances = np.array([0.9, 0.06, 0.03, 0.01])
    true_mean = float(kinds @ chances)
    true_p95 = math.exp(1.645 * 0.5)
    kept_recall = kept_p95 = 0
    for _ in range(1000):
        kept_recall += recall_floor(rng.choice(kinds, 200, p=chances).tolist(), 10) <= true_mean
        kept_p95 += quantile_ceiling(np.exp(rng.normal(0, 0.5, 400)).tolist(), 0.95) >= true_p95
    assert kept_recall >= 930
    assert kept_p95 >= 930


def test_perfect_answers_do_not_prove_a_perfect_index() -> None:
    floor = recall_floor([1.0] * 200, 10)
    assert 0.997 < floor < 0.9995
    assert recall_floor([1.0] * 20, 10) < floor
    assert quantile_ceiling([1.0, 2.0, 3.0], 0.95) == 3.0
