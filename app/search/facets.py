"""Browse without a query: attributes to filter by, and a few images.

Both read a sample of a large table, so that the cost is the same at a thousand images and at ten million.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString, cast

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.store.images import Image
from app.types import Json

# Images to read: some 0.1 s for ten attributes.
SAMPLE = 10_000
_MARK = "/*filter*/ TRUE"


@dataclass(frozen=True, slots=True)
class Value:
    """A value of an attribute, and the number of images that have it."""

    value: str | int | float | bool
    images: int


@dataclass(frozen=True, slots=True)
class Facet:
    """An attribute to filter by; `kind` is number, text, boolean or element (of an array: filter by $contains).

    Numbers have a range and, unless it is a point, 24 bins of equal width; other kinds have their most common values.
    """

    name: str
    kind: str
    images: int
    distinct: int
    minimum: float | None
    maximum: float | None
    histogram: list[int]
    values: list[Value]


@dataclass(frozen=True, slots=True)
class Facets:
    """The facets of the images that pass a filter, the most common first; counts are estimates unless `exact`."""

    images: int
    exact: bool
    facets: list[Facet]


def facets(
    conn: Connection,
    *,
    filter: Json | None = None,  # noqa: A002 — the name that search has
    names: Sequence[str] | None = None,
) -> Facets:
    """Return up to 40 attributes (or those named) by which the images that pass a filter can be filtered further.

    Raises:
        InvalidInputError: the filter is malformed.
    """
    with translated():
        percent = _percent(conn)
        statement = _filtered(conn, "facets", filter)
        values = {"percent": percent, "most": 2 * SAMPLE, "names": None if names is None else list(names)}
        with conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(statement, values).fetchall()
    sampled = int(rows[0]["sampled"])
    scale = 100 / percent
    found = [
        Facet(
            name=row["name"],
            kind=row["kind"],
            images=round(row["images"] * scale),
            distinct=row["distinct_values"],
            minimum=row["minimum"],
            maximum=row["maximum"],
            histogram=[round(count * scale) for count in row["histogram"] or ()],
            values=[Value(one["value"], round(one["images"] * scale)) for one in row["common"] or ()],
        )
        for row in rows
        if row["name"] is not None
    ]
    return Facets(images=round(sampled * scale), exact=percent == 100 and sampled < 2 * SAMPLE, facets=found)


def sample(
    conn: Connection,
    *,
    filter: Json | None = None,  # noqa: A002
    limit: int = 48,
    seed: int = 0,
) -> list[Image]:
    """Return up to `limit` searchable images that pass a filter, drawn at random: the same for the same seed.

    If a sample of the table holds too few of them, these are the latest ones.

    Raises:
        InvalidInputError: the filter is malformed.
    """
    with translated():
        percent = _percent(conn)
        found = _images(conn, "sample", filter, {"percent": percent, "seed": seed, "most": limit})
        if len(found) < limit and percent < 100:
            found = _images(conn, "latest", filter, {"most": limit})
    return found


def _images(conn: Connection, query: str, filter_: Json | None, values: dict[str, object]) -> list[Image]:
    with conn.cursor(row_factory=class_row(Image)) as cursor:
        return cursor.execute(_filtered(conn, query, filter_), values).fetchall()


def _percent(conn: Connection) -> float:
    row = conn.execute(sql.query("image_estimate")).fetchone()
    images = max(int(str(row[0])), 1) if row else 1
    return min(100.0, 100 * SAMPLE / images)


def _filtered(conn: Connection, query: str, filter_: Json | None) -> LiteralString:
    """Return a statement with the condition of a filter filled in; the database itself writes and quotes that text."""
    statement = sql.query(query)
    if filter_ is None:
        return statement
    row = conn.execute("SELECT lookalike.filter_condition(%s)", [Jsonb(filter_)]).fetchone()
    condition = str(row[0]) if row else "FALSE"
    filled = statement.replace(_MARK, condition.replace("%", "%%"))
    return cast("LiteralString", filled)  # type: ignore[redundant-cast]
