"""Fits the rotations that make candidates of embeddings: principal components, and axes whose sign bits say most."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInputError

Matrix = NDArray[np.float32]

# ITQ (Gong & Lazebnik 2011): alternately the bits of rotated components, and the rotation that fits them best.
_ITERATIONS = 20
# Beyond that many bits a random rotation serves as well (docs/decisions/indexes.md), and ITQ takes minutes.
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
    """A fitted transform: the projection whose signs are the bits, the one to the principal components, or both."""

    bits: Projection | None
    reduced: Projection | None
    sample_size: int
    seed: int
    explained_variance: float

    @property
    def fingerprint(self) -> str:
        """The hex SHA-256 of axes and shifts."""
        digest = hashlib.sha256()
        for name, one in (("bits", self.bits), ("reduced", self.reduced)):
            if one is not None:
                digest.update(f"{name} {one.axes.shape}".encode())
                digest.update(one.axes.astype(np.float16).tobytes())
                digest.update(one.shifts.tobytes())
        return digest.hexdigest()

    def packed(self, embeddings: Matrix) -> NDArray[np.uint8] | None:
        """Return the bits as PostgreSQL packs them, the first in the highest place; None where there are none."""
        return None if self.bits is None else np.packbits(self.bits.of(embeddings) > 0, axis=1)

    def components(self, embeddings: Matrix) -> Matrix | None:
        """Return the reduced form; None where there is none."""
        return None if self.reduced is None else self.reduced.of(embeddings)


def fit_reduced(sample: Matrix, *, dimensions: int, seed: int) -> Transform:
    """Fit the axes that keep most of the inner products of a sample, so of its cosines: nothing is subtracted."""
    rows, width = sample.shape
    _check(rows, dimensions, width)
    moments = sample.astype(np.float64)
    values, axes = _axes(moments.T @ moments / rows)
    return Transform(
        bits=None,
        reduced=_projection(axes[:, :dimensions], np.zeros(width)),
        sample_size=rows,
        seed=seed,
        explained_variance=float(values[:dimensions].sum() / max(values.sum(), 1e-30)),
    )


def fit(sample: Matrix, *, bits: int | None, dimensions: int | None, seed: int) -> Transform:
    """Fit a transform to a sample of embeddings, shape (n, dimensions). The same sample and seed give the same.

    Bits: PCA to as many axes as bits, then the rotation of ITQ. InvalidInputError where the sample is too small, or
    has fewer dimensions than are asked for.
    """
    rows, width = sample.shape
    most = max(bits or 0, dimensions or 0)
    _check(rows, most, width)
    mean = sample.mean(axis=0, dtype=np.float64)
    centred = sample.astype(np.float64) - mean
    variances, vectors = _axes(centred.T @ centred / rows)
    rotated = None
    if bits is not None:
        components = vectors[:, :bits]
        rotated = _projection(components @ _rotation(centred @ components, seed), mean)
    reduced = None if dimensions is None else _projection(vectors[:, :dimensions], mean)
    return Transform(
        bits=rotated,
        reduced=reduced,
        sample_size=rows,
        seed=seed,
        explained_variance=float(variances[:most].sum() / max(variances.sum(), 1e-30)),
    )


def _check(rows: int, outputs: int, width: int) -> None:
    if rows < LEAST_SAMPLE:
        raise InvalidInputError(
            f"{rows} embeddings are too few to fit a transform on: {LEAST_SAMPLE} are the least; choose hnsw or exact"
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
