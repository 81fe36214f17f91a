"""Two embedding spaces compared by searching both. Imports `db`, `errors` and `sql`."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from app import sql
from app.db import Connection, translated
from app.errors import NotFoundError


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


def _mean(column: Iterable[object]) -> float | None:
    """The mean of what is known: an image without neighbours, or without the label, has none."""
    known = [float(str(value)) for value in column if value is not None]
    return fmean(known) if known else None
