"""Two embedding spaces compared by searching both. Imports `db`, `errors`, `queries`, `spaces` and `sql`."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pgvector import HalfVector

from app import queries, spaces, sql
from app.db import Connection, translated
from app.errors import NotFoundError
from app.records import Embedding, Space


@dataclass(frozen=True, slots=True)
class Side:
    """One space's part: mean distance of the neighbours, and the share with the image's label, where one was named."""

    space: str
    distance: float
    precision: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two spaces answer to the same `images` queries; `overlap` is the share of neighbours in common."""

    k: int
    images: int
    overlap: float
    first: Side
    second: Side


def compare(
    conn: Connection, first: str, second: str, *, k: int = 10, sample: int = 100, label: str | None = None
) -> Comparison:
    """Search both spaces by up to `sample` stored images that both hold, the same ones each time.

    NotFoundError for an unknown space, and where they have no image in common.
    """
    values = {"first": first, "second": second, "k": k, "sample": sample, "label": label, "seed": ""}
    with translated():
        rows = conn.execute(sql.query("compare_spaces"), values).fetchall()
    if not rows:
        raise NotFoundError(f"spaces {first} and {second} have no image in common yet; see lookalike space backfill")
    _, overlaps, *columns = zip(*rows, strict=True)
    first_distance, second_distance, first_precision, second_precision = (_mean(column) for column in columns)
    return Comparison(
        k=k,
        images=len(rows),
        overlap=_mean(overlaps) or 0.0,
        first=Side(first, first_distance or 0.0, first_precision),
        second=Side(second, second_distance or 0.0, second_precision),
    )


def compare_by(
    conn: Connection, first: str, second: str, images: Iterable[bytes], *, k: int = 10, timeout: float = 10
) -> Comparison:
    """Search both spaces by these query images (a file's bytes each), which the workers embed in both. In autocommit.

    NotFoundError for an unknown space, and where there is no image; what `queries.embed` raises.
    """
    sides = spaces.get(conn, first), spaces.get(conn, second)
    overlaps: list[float] = []
    distances: tuple[list[float], list[float]] = [], []
    for image in images:
        vectors = [queries.embed(conn, image, timeout=timeout, space=side) for side in sides]
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
        overlap=fmean(overlaps),
        first=Side(first, _mean(distances[0]) or 0.0, None),
        second=Side(second, _mean(distances[1]) or 0.0, None),
    )


def _nearest(conn: Connection, space: Space, query: Embedding, k: int) -> dict[int, float]:
    values = {"space": space.name, "query": HalfVector(query), "k": k}
    with translated():
        rows: list[Any] = conn.execute(sql.query("nearest_in"), values).fetchall()
    return {row[0]: row[1] for row in rows}


def _mean(column: Iterable[object]) -> float | None:
    """The mean of what is known: an image without neighbours, or without the label, has none."""
    known = [float(str(value)) for value in column if value is not None]
    return fmean(known) if known else None
