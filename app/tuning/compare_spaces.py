"""Two embedding spaces compared by searching both by the same images."""

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
    """One space's part: mean distance of the neighbours, and the share with the image's label, where one was named;
    images that a worker embeds in a second of work, by device, as far as workers wrote it down; bytes an image."""

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
    """An image that the two spaces find other neighbours of, nearest first; `overlap` is the share in common."""

    image_id: int
    overlap: float
    first_ids: list[int]
    second_ids: list[int]


@dataclass(frozen=True, slots=True)
class Gain:
    """How much more of the label's precision the second space has, with its 95 % interval over the images."""

    precision: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two spaces answer to the same `images` queries; `overlap` is the share of neighbours in common.

    `examples` are stored images with the least in common, `gain` is None without a label.
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
    """Search both spaces by up to `sample` stored images that both hold, the same ones each time.

    NotFoundError for an unknown space, and where they have no image in common.
    """
    values = {"first": first, "second": second, "k": k, "sample": sample, "label": label, "seed": ""}
    with translated(), conn.cursor(row_factory=class_row(_Row)) as cursor:
        rows = cursor.execute(sql.query("compare_spaces"), values).fetchall()
    if not rows:
        raise NotFoundError(f"spaces {first} and {second} have no image in common yet; see lookalike space backfill")
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
    """Search both spaces by these query images (a file's bytes each), which the workers embed in both. In autocommit.

    NotFoundError for an unknown space, and where there is no image; what `queries.embed` raises.
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
        raise NotFoundError(f"there is nothing to compare: no query image, or nothing embedded in {first}")
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
    """Those with the least in common; of several alike, those that differ most in precision, then any."""
    apart = [row for row in rows if row.overlap is not None and row.overlap < 1]
    apart.sort(
        key=lambda row: (
            row.overlap,
            -abs((row.first_precision or 0.0) - (row.second_precision or 0.0)),
            crc32(str(row.image_id).encode()),
        )
    )
    return [
        Disagreement(row.image_id, row.overlap or 0.0, row.first_ids or [], row.second_ids or [])
        for row in apart[:most]
    ]


def _side(conn: Connection, space: str, distances: list[float | None], precisions: list[float | None]) -> Side:
    with translated():
        found = conn.execute(sql.query("space_bytes"), {"space": space}).fetchone() or (0, 0)
    size, rows = (int(str(value)) for value in found)
    speeds = {
        one.device: one.per_second
        for one in costs.of_workers(conn, days=36_500)
        if one.space == space and one.per_second is not None
    }
    return Side(space, _mean(distances) or 0.0, _mean(precisions), speeds, size / rows if rows else None)


def _gain(pairs: list[tuple[float | None, float | None]]) -> Gain | None:
    """The mean of the differences image by image: what both find hard is not held against either."""
    differences = [two - one for one, two in pairs if one is not None and two is not None]
    if not differences:
        return None
    mean = fmean(differences)
    error = 1.96 * stdev(differences) / sqrt(len(differences)) if len(differences) > 1 else 1.0
    return Gain(mean, mean - error, mean + error)


def _mean(column: Iterable[float | None]) -> float | None:
    """The mean of what is known: an image without neighbours, or without the label, has none."""
    known = [value for value in column if value is not None]
    return fmean(known) if known else None
