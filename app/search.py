"""Search from Python: the SQL functions, with their results' metadata."""

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

from pgvector import HalfVector
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.errors import SchemaError
from app.records import Answer, Embedding, Image, Json, Neighbor


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


def search(conn: Connection, query: Embedding, **options: Unpack[Options]) -> Answer:
    """Return the images nearest to an embedding of the active space, shape (dimensions,); one statement.

    InvalidInputError for a malformed filter, another dimension or an option out of range; SpaceChangedError where
    `in_space`, the id of the space that the query was embedded in, is not the active one.
    """
    return _run(conn, {"query": HalfVector(query), "image_id": None}, options)


def similar(conn: Connection, image_id: int, **options: Unpack[Options]) -> Answer:
    """Return the images nearest to a stored one, itself left out; NotFoundError where it is unknown or not embedded."""
    return _run(conn, {"query": None, "image_id": image_id}, options)


def _run(conn: Connection, subject: dict[str, Any], options: Options) -> Answer:
    filter_ = options.get("filter")
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
        "filter": None if filter_ is None else Jsonb(filter_),
        "exclude": list(options.get("exclude", ())),
    }
    with translated(), conn.cursor(row_factory=tuple_row) as cursor:
        rows: list[Any] = cursor.execute(sql.query("search"), parameters).fetchall()
    if not rows:
        raise SchemaError('no embedding space is active; the first "lookalike worker" creates one')
    space, plan = rows[0][:2]
    # The statement's columns after these are an image's fields in their order; a test compares the names.
    neighbors = [Neighbor(distance, Image(*image)) for _, _, distance, *image in rows if distance is not None]
    return Answer(neighbors=neighbors, space=space, plan=plan or {})
