"""The SQL functions of search, called from Python, with the metadata of what they find."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, TypedDict, Unpack

import numpy as np
from pgvector import HalfVector
from psycopg import sql as pgsql
from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import Jsonb

from app.db import Connection, call, sql, translated
from app.errors import InvalidInputError, SchemaError
from app.search.results import Hit, SearchResult
from app.store.images import Image
from app.types import Embedding, Json


class Options(TypedDict, total=False):
    """The options of `lookalike.search`; one left out or None takes the SQL function's default."""

    k: int
    filter: Json | None
    max_distance: float | None
    exclude: Sequence[int]
    recall: float | None
    ef_search: int | None
    strategy: str | None
    explain: bool
    in_space: int | None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An image of a group of near-duplicates, named by its smallest id; `distance` is to the nearest other one."""

    group_id: int
    image_id: int
    distance: float


def search(conn: Connection, query: Embedding, **options: Unpack[Options]) -> SearchResult:
    """Return the images nearest to an embedding of the active space, shape (dimensions,); one statement.

    Raises:
        InvalidInputError: the filter is malformed, the dimension is another one, or an option is out of range.
        SpaceChangedError: `in_space`, the space that the query was embedded in, is not the active one.
    """
    return _search(conn, {"query": HalfVector(query), "image_id": None}, options)


def similar(conn: Connection, image_id: int, **options: Unpack[Options]) -> SearchResult:
    """Return the images nearest to a stored one, which is left out.

    Raises:
        NotFoundError: the image is unknown or not embedded.
    """
    return _search(conn, {"query": None, "image_id": image_id}, options)


def _search(conn: Connection, subject: dict[str, Any], options: Options) -> SearchResult:
    parameters = {
        "k": 10,
        "max_distance": None,
        "recall": None,
        "ef_search": None,
        "strategy": None,
        "explain": False,
        "in_space": None,
        **options,
        **subject,
        "filter": _parameter(options.get("filter")),
        "exclude": list(options.get("exclude", ())),
    }
    with translated(), conn.cursor(row_factory=tuple_row) as cursor:
        rows: list[Any] = cursor.execute(sql.query("search"), parameters).fetchall()
    if not rows:
        raise SchemaError('no embedding space is active; the first "lookalike worker" creates one')
    space, plan = rows[0][:2]
    # The statement's columns after these are an image's fields in their order; a test compares the names.
    hits = [Hit(Image(*image), distance) for _, _, distance, *image in rows if distance is not None]
    return SearchResult(hits, space, plan or {})


def call_search(conn: Connection, function: LiteralString, **arguments: object) -> list[dict[str, Any]]:
    """Call a SQL function that finds images; return its rows in their order, each with the image under `image`.

    An argument that is None takes the SQL function's default.
    """
    given = {name: _parameter(value) for name, value in arguments.items() if value is not None}
    statement = pgsql.SQL(
        "SELECT s.*, encode(i.sha256, 'hex') AS sha256, i.uri, i.media_type, i.width, i.height, i.caption,"
        " i.attributes, i.created_at, i.updated_at"
        " FROM ROWS FROM (lookalike.{}({})) WITH ORDINALITY AS s JOIN lookalike.images i ON i.id = s.id"
        " ORDER BY s.ordinality"
    ).format(
        pgsql.Identifier(function),
        pgsql.SQL(", ").join(
            pgsql.SQL("{} => {}").format(pgsql.Identifier(name), pgsql.Placeholder(name)) for name in given
        ),
    )
    with translated(), conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement, given).fetchall()
    for row in rows:
        row["image"] = Image(**{name: row[name] if name == "id" else row.pop(name) for name in _IMAGE})
    return rows


def embedding_of(conn: Connection, image_id: int) -> Embedding:
    """Return a stored embedding, shape (dimensions,).

    Raises:
        NotFoundError: the image is unknown or not embedded.
    """
    return _embedding(conn, "embedding_of", image_id)


def example_query(
    conn: Connection,
    *,
    like: Sequence[int] = (),
    unlike: Sequence[int] = (),
    like_embeddings: Sequence[Embedding] = (),
    unlike_embeddings: Sequence[Embedding] = (),
) -> Embedding:
    """Return the one embedding that examples stand for, shape (dimensions,).

    Raises:
        NotFoundError: an id is unknown.
        InvalidInputError: there is no positive example.
    """
    vectors = ([HalfVector(one) for one in given] or None for given in (like_embeddings, unlike_embeddings))
    return _embedding(conn, "example_query", list(like), list(unlike), *vectors)


def near_duplicates(
    conn: Connection,
    *,
    threshold: float = 0.35,
    filter: Json | None = None,  # noqa: A002 — the name that search has
) -> list[Duplicate]:
    """Return groups of near-duplicates by group and id. Costs one index search an image."""
    with translated():
        rows = call(conn, "near_duplicates", threshold, _parameter(filter)).fetchall()
    return [Duplicate(*row[:3]) for row in rows]


_IMAGE = tuple(Image.__dataclass_fields__)


def _embedding(conn: Connection, function: LiteralString, *arguments: object) -> Embedding:
    with translated():
        row = call(conn, function, *arguments).fetchone()
    if row is None or not isinstance(row[0], HalfVector):
        raise InvalidInputError(f"an image and examples have an embedding, {arguments[0]} has none")
    found: Embedding = row[0].to_numpy().astype(np.float32)
    return found


def _parameter(value: object) -> object:
    """Return a value as psycopg adapts it to the type of the SQL parameter."""
    if isinstance(value, np.ndarray):
        return HalfVector(value)
    return Jsonb(value) if isinstance(value, dict) else value
