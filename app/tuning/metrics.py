"""Metrics of answers: exact neighbours, tie-aware recall, label precision, and confidence bounds for promises.

As in ann-benchmarks, a hit counts if its true distance is at most that of the k-th true neighbour plus EPSILON, because
duplicates have no right order.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-3
# One-sided confidence of the bounds, and the matching quantile of the normal distribution.
CONFIDENCE = 0.95
_Z = 1.645
# Upper bound of the float32 rounding error of a squared distance between unit vectors.
_ROUNDING = 1e-5

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Truth:
    """The true answer of a query: `accepted` are all ids within the k-th true distance + EPSILON; `k` of them count."""

    k: int
    accepted: frozenset[int]

    def recall(self, found: Sequence[int]) -> float:
        """Return the recall of these ids, duplicates counted once; 1 if there are no neighbours."""
        if not self.k:
            return 1.0
        return min(sum(one in self.accepted for one in set(found)), self.k) / self.k


class Exact:
    """The exact nearest rows of many queries, over rows that come in parts; only candidates stay in memory."""

    def __init__(self, queries: Vectors, k: int) -> None:
        """Take queries of shape (queries, dimensions), rounded to half precision as in the database."""
        self._queries = queries.astype(np.float32)
        self._norms = (self._queries.astype(np.float64) ** 2).sum(axis=1)
        self._k = k
        self._ids: list[Ids] = [np.empty(0, np.int64) for _ in queries]
        self._distances: list[NDArray[np.float64]] = [np.empty(0) for _ in queries]

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add rows that were not in an earlier part: ids, shape (rows,), and vectors, shape (rows, dimensions)."""
        if not len(ids):
            return
        rows = vectors.astype(np.float32)
        norms = (rows.astype(np.float64) ** 2).sum(axis=1)
        squares = self._norms[:, None] + norms[None, :] - 2.0 * (self._queries @ rows.T)
        for n, query in enumerate(self._queries):
            near = np.flatnonzero(squares[n] <= self._reach(n, squares[n]))
            # Again in float64, because the subtraction above leaves only rounding errors of near duplicates.
            exact = np.sqrt(((rows[near].astype(np.float64) - query.astype(np.float64)) ** 2).sum(axis=1))
            self._merge(n, ids[near], exact)

    def _reach(self, n: int, squares: NDArray[np.float64]) -> float:
        known = self._distances[n]
        if len(known) >= self._k:
            worst = known[self._k - 1]
        elif len(squares) > self._k:
            worst = math.sqrt(max(float(np.partition(squares, self._k - 1)[self._k - 1]), 0.0))
        else:
            return math.inf
        return float((worst + EPSILON) ** 2 + 2 * _ROUNDING)

    def _merge(self, n: int, ids: Ids, distances: NDArray[np.float64]) -> None:
        all_ids, all_distances = np.r_[self._ids[n], ids], np.r_[self._distances[n], distances]
        order = np.lexsort((all_ids, all_distances))
        all_ids, all_distances = all_ids[order], all_distances[order]
        if len(all_ids) > self._k:
            kept = int(np.searchsorted(all_distances, all_distances[self._k - 1] + EPSILON, side="right"))
            all_ids, all_distances = all_ids[:kept], all_distances[:kept]
        self._ids[n], self._distances[n] = all_ids, all_distances

    def truths(self) -> list[Truth]:
        """Return the true answer of each query among the rows so far."""
        return [Truth(min(self._k, len(ids)), frozenset(ids.tolist())) for ids in self._ids]


def label_precision(found: Sequence[Sequence[int]], labels: Mapping[int, str], wanted: Sequence[str | None]) -> float:
    """Return the mean share of hits with the query's label, over the queries that have one; nan without any."""
    shares = [
        sum(labels.get(one) == label for one in ids) / len(ids)
        for ids, label in zip(found, wanted, strict=True)
        if label is not None and ids
    ]
    return float(np.mean(shares)) if shares else math.nan


def recall_floor(recalls: Collection[float], k: int) -> float:
    """Return a lower bound, with 95 % confidence, of the mean recall of such queries.

    It is Johnson's bound (JASA 73, 1978): the mean minus 1.645 standard errors, corrected for skew, because most
    recalls are perfect. A query that misses one of its k is added, because a hundred perfect answers do not prove a
    perfect index.
    """
    values = np.asarray([*recalls, (k - 1) / k], dtype=np.float64)
    if len(values) < 3:
        return 0.0
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    skew = float(((values - mean) ** 3).mean()) / variance * (1 + 2 * _Z**2) / (6 * len(values))
    return min(max(mean + skew - _Z * math.sqrt(variance / len(values)), 0.0), mean)


def quantile_ceiling(values: Collection[float], share: float) -> float:
    """Return an upper bound, with 95 % confidence, of the quantile of such values, whatever their distribution.

    It is an order statistic; its rank is the binomial bound in the normal approximation. Of too few values it is the
    maximum.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    count = len(ordered)
    rank = math.ceil(count * share + _Z * math.sqrt(count * share * (1 - share)))
    return float(ordered[min(rank, count - 1)])
