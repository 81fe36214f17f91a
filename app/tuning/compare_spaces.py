"""Compare two embedding spaces by searching both by the same images."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any
from zlib import crc32

from pgvector import HalfVector
from psycopg.rows import class_row

from app.db import Connection, sql, translated
from app.errors import NotFoundError
from app.monitoring import costs
from app.store import query_images, spaces
from app.store.spaces import Space
from app.types import Embedding


@dataclass(frozen=True, slots=True)
class Side:
    """The figures of one space.

    `distance` is the mean distance of neighbours, `precision` their share with the query's label. `per_second` is the
    number of images that a worker embeds per second of work, by device.
    """

    space: str
    distance: float
    precision: float | None
    per_second: dict[str, float]
    bytes_per_image: float | None


@dataclass(frozen=True, slots=True)
class _Row:
    image_id: int
    overlap: float | None
    first_distance: float | None
    second_distance: float | None
    first_precision: float | None
    second_precision: float | None
    first_ids: list[int] | None
    second_ids: list[int] | None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An image whose neighbours (nearest first) differ between the spaces; `overlap` is the share in common."""

    image_id: int
    overlap: float
    first_ids: list[int]
    second_ids: list[int]


@dataclass(frozen=True, slots=True)
class Gain:
    """The difference in label precision, second space minus first, with its 95 % interval."""

    precision: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answers of two spaces to the same `images` queries; `overlap` is the share of neighbours in common.

    `examples` are the stored images with the fewest neighbours in common. `gain` is None without a label.
    """

    k: int
    images: int
    label: str | None
    overlap: float
    first: Side
    second: Side
    gain: Gain | None
    examples: list[Disagreement]


def compare(
    conn: Connection,
    first: str,
    second: str,
    *,
    k: int = 10,
    sample: int = 100,
    label: str | None = None,
    examples: int = 6,
) -> Comparison:
    """Search both spaces by up to `sample` stored images that both have, the same images each time.

    Raises:
        NotFoundError: a space does not exist, or the spaces have no image in common.
    """
    values = {"first": first, "second": second, "k": k, "sample": sample, "label": label, "seed": ""}
    with translated(), conn.cursor(row_factory=class_row(_Row)) as cursor:
        rows = cursor.execute(sql.query("compare_spaces"), values).fetchall()
    if not rows:
        raise NotFoundError(
            f"spaces {first} and {second} have no image in common yet; embed more: lookalike space backfill"
        )
    return Comparison(
        k=k,
        images=len(rows),
        label=label,
        overlap=_mean(row.overlap for row in rows) or 0.0,
        first=_side(conn, first, [row.first_distance for row in rows], [row.first_precision for row in rows]),
        second=_side(conn, second, [row.second_distance for row in rows], [row.second_precision for row in rows]),
        gain=_gain([(row.first_precision, row.second_precision) for row in rows]),
        examples=_examples(rows, examples),
    )


def compare_by(
    conn: Connection, first: str, second: str, images: Iterable[bytes], *, k: int = 10, timeout: float = 10
) -> Comparison:
    """Search both spaces by these query images (the bytes of a file each); workers embed them. In autocommit.

    Raises:
        NotFoundError: a space does not exist, there is no query image, or the first space has no embeddings.
        LookalikeError: as for `query_images.embed`.
    """
    sides = spaces.get(conn, first), spaces.get(conn, second)
    overlaps: list[float] = []
    distances: tuple[list[float | None], list[float | None]] = [], []
    for image in images:
        vectors = [query_images.embed(conn, image, timeout=timeout, space=side) for side in sides]
        found = [_nearest(conn, side, vector, k) for side, vector in zip(sides, vectors, strict=True)]
        if found[0]:
            overlaps.append(len(found[0].keys() & found[1].keys()) / len(found[0]))
        for column, neighbors in zip(distances, found, strict=True):
            column += [fmean(neighbors.values())] if neighbors else []
    if not overlaps:
        raise NotFoundError(
            f"there is nothing to compare: no query image was given, or space {first} has no embeddings"
        )
    return Comparison(
        k=k,
        images=len(overlaps),
        label=None,
        overlap=fmean(overlaps),
        first=_side(conn, first, distances[0], []),
        second=_side(conn, second, distances[1], []),
        gain=None,
        examples=[],
    )


def _nearest(conn: Connection, space: Space, query: Embedding, k: int) -> dict[int, float]:
    values = {"space": space.name, "query": HalfVector(query), "k": k}
    with translated():
        rows: list[Any] = conn.execute(sql.query("nearest_in"), values).fetchall()
    return {row[0]: row[1] for row in rows}


def _examples(rows: list[_Row], most: int) -> list[Disagreement]:
    """Return the images with the fewest neighbours in common; on a tie, those that differ most in precision first."""
    differing = [row for row in rows if row.overlap is not None and row.overlap < 1]
    differing.sort(
        key=lambda row: (
            row.overlap,
            -abs((row.first_precision or 0.0) - (row.second_precision or 0.0)),
            crc32(str(row.image_id).encode()),
        )
    )
    return [
        Disagreement(row.image_id, row.overlap or 0.0, row.first_ids or [], row.second_ids or [])
        for row in differing[:most]
    ]


def _side(conn: Connection, space: str, distances: list[float | None], precisions: list[float | None]) -> Side:
    with translated():
        found = conn.execute(sql.query("space_bytes"), {"space": space}).fetchone() or (0, 0)
    size, rows = (int(str(value)) for value in found)
    speeds = {
        one.device: one.per_second
        for one in costs.worker_costs(conn, days=36_500)
        if one.space == space and one.per_second is not None
    }
    return Side(space, _mean(distances) or 0.0, _mean(precisions), speeds, size / rows if rows else None)


def _gain(pairs: list[tuple[float | None, float | None]]) -> Gain | None:
    """Return the mean of the differences per image, so that images hard for both spaces do not widen the interval."""
    differences = [two - one for one, two in pairs if one is not None and two is not None]
    if not differences:
        return None
    mean = fmean(differences)
    error = 1.96 * stdev(differences) / sqrt(len(differences)) if len(differences) > 1 else 1.0
    return Gain(mean, mean - error, mean + error)


def _mean(column: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None: images with neighbours and with the label."""
    values = [value for value in column if value is not None]
    return fmean(values) if values else None
