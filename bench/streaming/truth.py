"""Queries in one snapshot together with its rows, and their recall."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from app import db
from bench.search.data import literal

EPSILON = 1e-3
DEPTHS = (10, 100)

Vectors = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_SEARCH = """
SELECT split_part(i.uri, ':', 2)::int, s.distance
FROM lookalike.search(%s::halfvec, %s) s JOIN lookalike.images i ON i.id = s.id ORDER BY s.distance, s.id
"""

VISIBLE = """
SELECT array_agg(split_part(i.uri, ':', 2)::int)
FROM lookalike.images i JOIN lookalike.active_embeddings e ON e.image_id = i.id
"""


@dataclass(frozen=True)
class Asked:
    """A query's answer (numbers of vectors, nearest first) and the numbers of all vectors in the snapshot."""

    query: int
    k: int
    ids: list[int]
    visible: Ints


def ask(conn: db.Connection, queries: Vectors, *, first: int) -> list[Asked]:
    """Run these queries at each depth in one REPEATABLE READ transaction; `first` numbers the first query."""
    asked: list[tuple[int, int, list[int]]] = []
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for n, query in enumerate(queries):
            for k in DEPTHS:
                rows: list[Any] = conn.execute(_SEARCH, (literal(query), k)).fetchall()
                asked.append((first + n, k, [row[0] for row in rows]))
        row: Any = conn.execute(VISIBLE).fetchone()
    visible = np.array(row[0], dtype=np.int64)
    return [Asked(query, k, ids, visible) for query, k, ids in asked]


def recalls(asked: list[Asked], vectors: Vectors, queries: Vectors) -> dict[str, dict[str, float]]:
    """Return mean and least recall by depth, tie-aware: a hit lies within the k-th true distance + EPSILON."""
    return {f"recall_at_{k}": recall_at(asked, k, vectors, queries) for k in DEPTHS}


def recall_at(asked: list[Asked], k: int, vectors: Vectors, queries: Vectors) -> dict[str, float]:
    """Return mean and least recall of the queries for k."""
    each = [_recall(one, vectors, queries) for one in asked if one.k == k]
    return {"mean": float(np.mean(each)), "least": float(min(each)), "queries": len(each)}


def _recall(one: Asked, vectors: Vectors, queries: Vectors) -> float:
    query = queries[one.query].astype(np.float64)
    close = vectors[one.visible] @ queries[one.query]
    k = min(one.k, len(one.visible))
    likely = one.visible[np.argpartition(-close, min(k + 20, len(close) - 1))[: k + 20]]
    bound = np.partition(_distances(vectors[likely], query), k - 1)[k - 1] + EPSILON
    if not np.isin(one.ids, one.visible).all():
        raise ValueError(f"query {one.query} has rows in its answer that its snapshot does not show")
    hits = int((_distances(vectors[one.ids], query) <= bound).sum()) if one.ids else 0
    return hits / k


def _distances(vectors: Vectors, query: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    difference: npt.NDArray[np.float64] = np.linalg.norm(vectors.astype(np.float64) - query, axis=1)
    return difference
