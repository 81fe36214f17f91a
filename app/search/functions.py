"""Beyond nearest neighbours, from Python: one function for each SQL function of revision 0002, with the results'
metadata."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, TypedDict, Unpack

import numpy as np
from pgvector import HalfVector
from psycopg import sql as pgsql
from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import Jsonb

from app.db import Connection, sql, translated
from app.errors import InvalidInputError, SchemaError
from app.search.results import Answer, Neighbor
from app.store.images import Image
from app.types import Embedding, Json


@dataclass(frozen=True, slots=True)
class Within:
    """The images within a radius, nearest first; not `complete` where the row cap cut them off."""

    neighbors: list[Neighbor]
    complete: bool


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the distance and id of its last row. Survives text and JSON exactly."""

    distance: float
    image_id: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a search; `next` is None when the page is not full, so that nothing follows."""

    neighbors: list[Neighbor]
    next: Position | None


@dataclass(frozen=True, slots=True)
class Match:
    """A result of a search for words; no `distance` where it is not among the nearest, no `text_score` without them."""

    score: float
    distance: float | None
    text_score: float | None
    image: Image


@dataclass(frozen=True, slots=True)
class GroupHit:
    """The best hit of a group: images with the same value of an attribute."""

    group: str
    neighbor: Neighbor


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An image of a group of near-duplicates, named by its smallest id; `distance` is to the nearest other one."""

    group_id: int
    image_id: int
    distance: float


def embedding_of(conn: Connection, image_id: int) -> Embedding:
    """Return a stored embedding, shape (dimensions,); NotFoundError where the image is unknown or not embedded."""
    return _embedding(conn, "SELECT lookalike.embedding_of(%s::bigint)", [image_id])


def example_query(
    conn: Connection,
    *,
    like: Sequence[int] = (),
    unlike: Sequence[int] = (),
    like_embeddings: Sequence[Embedding] = (),
    unlike_embeddings: Sequence[Embedding] = (),
) -> Embedding:
    """Return the one embedding that examples stand for, with which `examples` searches, shape (dimensions,).

    NotFoundError for an unknown id, InvalidInputError without a positive example.
    """
    return _embedding(
        conn,
        "SELECT lookalike.example_query(%s::bigint[], %s::bigint[], %s::halfvec[], %s::halfvec[])",
        [
            list(like),
            list(unlike),
            [HalfVector(one) for one in like_embeddings] or None,
            [HalfVector(one) for one in unlike_embeddings] or None,
        ],
    )


def within(
    conn: Connection,
    query: Embedding,
    *,
    max_distance: float,
    filter: Json | None = None,  # noqa: A002 — the name that search has
    max_rows: int = 10_000,
    exclude: Sequence[int] = (),
) -> Within:
    """Return all images within `max_distance` of an embedding, shape (dimensions,): exact, one statement."""
    rows = _rows(
        conn,
        "within",
        query=HalfVector(query),
        max_distance=max_distance,
        filter=_json(filter),
        max_rows=max_rows,
        exclude=list(exclude),
    )
    return Within([_neighbor(row) for row in rows], complete=all(row["complete"] for row in rows))


def page(
    conn: Connection,
    query: Embedding,
    *,
    k: int = 10,
    filter: Json | None = None,  # noqa: A002
    after: Position | None = None,
    max_distance: float | None = None,
    exclude: Sequence[int] = (),
) -> Page:
    """Return the k images that come next after a position; on an unchanged table no page repeats or skips one."""
    rows = _rows(
        conn,
        "search_page",
        query=HalfVector(query),
        k=k,
        filter=_json(filter),
        after_distance=after.distance if after else None,
        after_id=after.image_id if after else None,
        max_distance=max_distance,
        exclude=list(exclude),
    )
    neighbors = [_neighbor(row) for row in rows]
    last = neighbors[-1] if len(neighbors) == k else None
    return Page(neighbors, next=Position(last.distance, last.image.id) if last else None)


def examples(
    conn: Connection,
    *,
    like: Sequence[int] = (),
    unlike: Sequence[int] = (),
    like_embeddings: Sequence[Embedding] = (),
    unlike_embeddings: Sequence[Embedding] = (),
    k: int = 10,
    filter: Json | None = None,  # noqa: A002
    max_distance: float | None = None,
    exclude: Sequence[int] = (),
    unlike_weight: float = 0.2,
    recall: float | None = None,
) -> list[Neighbor]:
    """Return the images nearest to positive and away from negative examples, which are left out (Rocchio 1971).

    NotFoundError for an unknown id, InvalidInputError without a positive example.
    """
    rows = _rows(
        conn,
        "search_examples",
        like=list(like),
        unlike=list(unlike),
        like_embeddings=[HalfVector(one) for one in like_embeddings] or None,
        unlike_embeddings=[HalfVector(one) for one in unlike_embeddings] or None,
        k=k,
        filter=_json(filter),
        max_distance=max_distance,
        exclude=list(exclude),
        recall=recall,
        unlike_weight=unlike_weight,
    )
    return [_neighbor(row) for row in rows]


def distinct(
    conn: Connection,
    query: Embedding,
    *,
    k: int = 10,
    threshold: float = 0.35,
    filter: Json | None = None,  # noqa: A002
    max_distance: float | None = None,
    exclude: Sequence[int] = (),
    recall: float | None = None,
) -> list[Neighbor]:
    """Return the nearest images less those within `threshold` of a better one."""
    rows = _rows(
        conn,
        "search_distinct",
        query=HalfVector(query),
        k=k,
        threshold=threshold,
        filter=_json(filter),
        max_distance=max_distance,
        exclude=list(exclude),
        recall=recall,
    )
    return [_neighbor(row) for row in rows]


def diverse(
    conn: Connection,
    query: Embedding,
    *,
    k: int = 10,
    relevance: float = 0.5,
    candidates: int | None = None,
    filter: Json | None = None,  # noqa: A002
    max_distance: float | None = None,
    exclude: Sequence[int] = (),
    recall: float | None = None,
) -> list[Neighbor]:
    """Return near images unlike each other, in the order taken: maximal marginal relevance, lambda = `relevance`."""
    rows = _rows(
        conn,
        "search_diverse",
        query=HalfVector(query),
        k=k,
        **{"lambda": relevance},
        candidates=candidates,
        filter=_json(filter),
        max_distance=max_distance,
        exclude=list(exclude),
        recall=recall,
    )
    return [_neighbor(row) for row in rows]


def grouped(
    conn: Connection,
    query: Embedding,
    *,
    group_by: str,
    k: int = 10,
    filter: Json | None = None,  # noqa: A002
    max_distance: float | None = None,
    exclude: Sequence[int] = (),
    recall: float | None = None,
) -> list[GroupHit]:
    """Return the best hit of each of the k nearest groups: always min(k, groups) of them."""
    rows = _rows(
        conn,
        "search_grouped",
        query=HalfVector(query),
        group_by=group_by,
        k=k,
        filter=_json(filter),
        max_distance=max_distance,
        exclude=list(exclude),
        recall=recall,
    )
    return [GroupHit(row["group_value"], _neighbor(row)) for row in rows]


def text(
    conn: Connection,
    words: str,
    *,
    k: int = 10,
    filter: Json | None = None,  # noqa: A002
    exclude: Sequence[int] = (),
) -> list[Match]:
    """Return the images whose caption and attributes fit the words best, the best first."""
    if exclude:
        filter = {"$and": [filter or {}, {"id": {"$nin": list(exclude)}}]}  # noqa: A001
    rows = _rows(conn, "search_text", words=words, k=k, filter=_json(filter))
    return [Match(row["score"], None, row["score"], Image(**row["image"])) for row in rows]


def fused(
    conn: Connection,
    query: Embedding,
    words: str,
    *,
    k: int = 10,
    filter: Json | None = None,  # noqa: A002
    weights: tuple[float, float] = (1.0, 1.0),
    candidates: int | None = None,
    exclude: Sequence[int] = (),
    recall: float | None = None,
) -> list[Match]:
    """Return the best images by look and words together, by reciprocal rank fusion with these weights."""
    rows = _rows(
        conn,
        "search_fused",
        query=HalfVector(query),
        words=words,
        k=k,
        filter=_json(filter),
        weights=[float(one) for one in weights],
        candidates=candidates,
        exclude=list(exclude),
        recall=recall,
    )
    return [Match(row["score"], row["distance"], row["text_score"], Image(**row["image"])) for row in rows]


def near_duplicates(
    conn: Connection,
    *,
    threshold: float = 0.35,
    filter: Json | None = None,  # noqa: A002
) -> list[Duplicate]:
    """Return groups of near-duplicates by group and id. Costs one index search an image."""
    with translated():
        rows = conn.execute(
            "SELECT group_id, image_id, distance FROM lookalike.near_duplicates(%s::float8, %s)",
            (threshold, _json(filter)),
        ).fetchall()
    return [Duplicate(int(str(group)), int(str(image)), float(str(distance))) for group, image, distance in rows]


def _embedding(conn: Connection, statement: LiteralString, parameters: list[object]) -> Embedding:
    with translated():
        row = conn.execute(statement, parameters).fetchone()
    if row is None or not isinstance(row[0], HalfVector):
        raise InvalidInputError(f"an image and examples have an embedding, {parameters[0]} has none")
    found: Embedding = row[0].to_numpy().astype(np.float32)
    return found


def _json(filter_: Json | None) -> Jsonb | None:
    return None if filter_ is None else Jsonb(filter_)


_TYPES = {
    "query": "halfvec",
    "k": "int",
    "max_rows": "int",
    "candidates": "int",
    "filter": "jsonb",
    "words": "text",
    "group_by": "text",
    "after_id": "bigint",
    "exclude": "bigint[]",
    "like": "bigint[]",
    "unlike": "bigint[]",
    "like_embeddings": "halfvec[]",
    "unlike_embeddings": "halfvec[]",
    "weights": "float8[]",
}
_COLUMNS = ("id", "uri", "sha256", "media_type", "width", "height", "caption", "attributes", "created_at", "updated_at")


def _rows(conn: Connection, function: str, **arguments: object) -> list[dict[str, Any]]:
    """Call one of the SQL functions; its rows in their order, each with the image under `image`.

    An argument that is None takes the SQL function's default.
    """
    arguments = {name: value for name, value in arguments.items() if value is not None}
    call = pgsql.SQL(
        "SELECT s.*, encode(i.sha256, 'hex') AS sha256, i.uri, i.media_type, i.width, i.height, i.caption,"
        " i.attributes, i.created_at, i.updated_at"
        " FROM ROWS FROM (lookalike.{}({})) WITH ORDINALITY AS s JOIN lookalike.images i ON i.id = s.id"
        " ORDER BY s.ordinality"
    ).format(
        pgsql.Identifier(function),
        pgsql.SQL(", ").join(
            pgsql.SQL("{} => {}::{}").format(
                pgsql.Identifier(name), pgsql.Placeholder(name), pgsql.SQL(_TYPES.get(name, "float8"))
            )
            for name in arguments
        ),
    )
    with translated(), conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(call, arguments).fetchall()
    for row in rows:
        row["image"] = {name: row[name] if name == "id" else row.pop(name) for name in _COLUMNS}
    return rows


def _neighbor(row: dict[str, Any]) -> Neighbor:
    return Neighbor(distance=row["distance"], image=Image(**row["image"]))


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
