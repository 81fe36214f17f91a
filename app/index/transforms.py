"""Fit the rotations that compress embeddings: principal components, and axes whose signs keep most."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInputError

Matrix = NDArray[np.float32]

# ITQ (Gong & Lazebnik 2011) alternates the bits of rotated components and the rotation that fits them best.
_ITERATIONS = 20
# With more bits a random rotation serves as well (docs/decisions/indexes.md), and ITQ takes minutes.
_MOST_FITTED_BITS = 512
LEAST_SAMPLE = 100
SAMPLE = 8_000


@dataclass(frozen=True, slots=True)
class Projection:
    """Axes, shape (outputs, dimensions), as halfvec stores them, and shifts, their inner products with the mean."""

    axes: Matrix
    shifts: NDArray[np.float64]

    def of(self, embeddings: Matrix) -> Matrix:
        """Return the embeddings, shape (n, dimensions), along the axes: shape (n, outputs)."""
        projected: Matrix = embeddings @ self.axes.T - self.shifts.astype(np.float32)
        return projected


@dataclass(frozen=True, slots=True)
class Transform:
    """A fitted transform: its form is bits, the signs along the axes, or reduced, the components along them."""

    form: Literal["bits", "reduced"]
    projection: Projection
    sample_size: int
    seed: int
    explained_variance: float

    @property
    def fingerprint(self) -> str:
        """The hex SHA-256 of axes and shifts."""
        digest = hashlib.sha256(f"{self.form} {self.projection.axes.shape}".encode())
        digest.update(self.projection.axes.astype(np.float16).tobytes())
        digest.update(self.projection.shifts.tobytes())
        return digest.hexdigest()

    def packed(self, embeddings: Matrix) -> NDArray[np.uint8]:
        """Return the signs of the embeddings as PostgreSQL packs bits, the first in the highest place."""
        return np.packbits(self.projection.of(embeddings) > 0, axis=1)


def fit_reduced(sample: Matrix, *, dimensions: int, seed: int) -> Transform:
    """Fit the axes that keep most of the inner products of a sample, so of its cosines. Nothing is subtracted."""
    rows, width = sample.shape
    _check(rows, dimensions, width)
    moments = sample.astype(np.float64)
    values, axes = _axes(moments.T @ moments / rows)
    projection = _projection(axes[:, :dimensions], np.zeros(width))
    return Transform("reduced", projection, rows, seed, _share(values, dimensions))


def fit_components(sample: Matrix, dimensions: int, seed: int) -> Transform:
    """Fit as many principal components to a sample of embeddings, shape (n, dimensions).

    Raises:
        InvalidInputError: the sample is too small, or has fewer dimensions.
    """
    mean, _, variances, axes = _components(sample, dimensions)
    return Transform("reduced", _projection(axes, mean), len(sample), seed, _share(variances, dimensions))


def fit_bits(sample: Matrix, bits: int, seed: int) -> Transform:
    """Fit as many axes to a sample of embeddings: principal components, then the rotation of ITQ.

    The same sample and seed give the same axes.

    Raises:
        InvalidInputError: the sample is too small, or has fewer dimensions.
    """
    mean, centred, variances, axes = _components(sample, bits)
    rotated = _projection(axes @ _rotation(centred @ axes, seed), mean)
    return Transform("bits", rotated, len(sample), seed, _share(variances, bits))


def _components(
    sample: Matrix, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of a sample, the sample less it, all variances, and the first principal axes as columns."""
    rows, width = sample.shape
    _check(rows, count, width)
    mean = sample.mean(axis=0, dtype=np.float64)
    centred = sample.astype(np.float64) - mean
    variances, vectors = _axes(centred.T @ centred / rows)
    return mean, centred, variances, vectors[:, :count]


def _share(variances: NDArray[np.float64], count: int) -> float:
    return float(variances[:count].sum() / max(variances.sum(), 1e-30))


def _check(rows: int, outputs: int, width: int) -> None:
    if rows < LEAST_SAMPLE:
        raise InvalidInputError(
            f"{rows} embeddings are too few to fit a transform, which needs {LEAST_SAMPLE}; choose hnsw or exact"
        )
    if outputs > width:
        raise InvalidInputError(f"{outputs} axes of embeddings that have {width} dimensions: choose {width} or fewer")


def _axes(moments: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return eigenvalues, the greatest first, and eigenvectors as columns, each with its largest part positive."""
    values, vectors = np.linalg.eigh(moments)
    values, vectors = values[::-1], vectors[:, ::-1]
    return values, vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(vectors))] < 0, -1, 1)


def _projection(axes: NDArray[np.float64], mean: NDArray[np.float64]) -> Projection:
    stored = np.ascontiguousarray(axes.T.astype(np.float16).astype(np.float32))
    return Projection(stored, stored.astype(np.float64) @ mean)


def _rotation(components: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    size = components.shape[1]
    rotation: NDArray[np.float64] = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    if size > _MOST_FITTED_BITS:
        return rotation
    narrow = components.astype(np.float32)
    for _ in range(_ITERATIONS):
        signs = np.where(narrow @ rotation.astype(np.float32) > 0, np.float32(1), np.float32(-1))
        left, _sizes, right = np.linalg.svd((signs.T @ narrow).astype(np.float64))
        rotation = right.T @ left.T
    return rotation
