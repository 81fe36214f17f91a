"""Measure whether embeddings still resemble the sample that the transform was fitted on."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from psycopg.rows import tuple_row

from app.db import Connection, sql, translated
from app.index import candidates
from app.index.transforms import Matrix, Projection

RECENT = 500  # of the latest embeddings
FEWEST = 100
# Drift: the mean has moved by so many standard deviations, or so much less of the variance lies within the axes.
MOVED, LOST = 0.5, 0.1


@dataclass(frozen=True, slots=True)
class Drift:
    """The latest embeddings beside the sample.

    `explained_then` and `explained_now` are the shares of the variance within the axes. `moved` is the distance of the
    means, in standard deviations of the latest embeddings along the axes.
    """

    transform: int
    fitted_at: datetime
    recent: int
    explained_then: float
    explained_now: float
    moved: float

    @property
    def ok(self) -> bool:
        """Whether the transform still fits."""
        return self.moved < MOVED and self.explained_now > self.explained_then - LOST


def measure_drift(conn: Connection) -> Drift | None:
    """Return how the active space's latest embeddings fit its transform; None without a transform or with few rows."""
    with translated(), conn.cursor(row_factory=tuple_row) as cursor:
        used = cursor.execute(sql.query("drift_transform")).fetchone()
        if used is None:
            return None
        recent = cursor.execute(sql.query("recent_embeddings"), {"most": RECENT}).fetchall()
    transform, fitted_at = used
    fitted = candidates.load(conn, transform)
    if len(recent) < FEWEST:
        return None
    embeddings: Matrix = np.stack([row[0].to_numpy().astype(np.float32) for row in recent])
    moved, explained = measure(embeddings, fitted.projection)
    return Drift(transform, fitted_at, len(recent), fitted.explained_variance, explained, moved)


def measure(embeddings: Matrix, axes: Projection) -> tuple[float, float]:
    """Return how far the mean of embeddings has moved along orthonormal axes, and their share of the variance.

    `embeddings` has the shape (n, dimensions). The distance from the sample's mean is in standard deviations.
    """
    along = axes.of(embeddings)
    spread = float(along.var(axis=0).sum())
    whole = float(embeddings.var(axis=0).sum())
    moved = float(np.linalg.norm(along.mean(axis=0))) / max(spread, 1e-12) ** 0.5
    return moved, min(spread / max(whole, 1e-12), 1.0)
