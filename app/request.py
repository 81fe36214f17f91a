"""A search as users ask for it: which options go together, and which SQL function answers.

The doors (CLI, HTTP) differ in how they read a request and show what was found; what it means is here, once. The
options text, diverse, distinct, group_by and cursor choose another SQL function each, so that only one of them can be
given; k, filter and exclude go with all.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypedDict

import numpy as np

from app import cursor as cursors
from app import explore, search
from app.db import Connection
from app.errors import InvalidInputError, SpaceChangedError
from app.records import Embedding, Held, Image, Json, Neighbor, Space
from app.store import query_images, spaces

log = logging.getLogger(__name__)

MAX_K = 10_000

# So many switches of the active space in a row does a search by a picture outlive.
_MOST_SWITCHES = 3

# Each by a SQL function of its own.
_MODES = ("text", "diverse", "distinct", "group_by", "cursor")
# These and examples decide the kind of search.
_DECIDING = (*_MODES, "query", "image_id", "max_distance", "recall", "strategy")
# What gives a search its embedding; an uploaded or read image is `query`, as a vector is.
_SUBJECTS = frozenset({"query", "image_id", "like"})
# With no more than these, lookalike.search answers.
_PLAIN = frozenset({"query", "image_id", "recall", "strategy"})


@dataclass(frozen=True, slots=True)
class Request:
    """A search: by an embedding, a stored image, examples and words; options as in the SQL functions.

    `strategy` is that of lookalike.search: "exact" or "index" force one. `diverse` is lambda of
    lookalike.search_diverse, `distinct` the threshold of lookalike.search_distinct, `cursor` "start" or the `next` of
    the page before. `in_space` is the id of the space that the embeddings given were made in, where that is known:
    another one may be active by the time of the search.
    """

    query: Embedding | None = None
    image_id: int | None = None
    like: Sequence[int] = ()
    unlike: Sequence[int] = ()
    like_embeddings: Sequence[Embedding] = ()
    unlike_embeddings: Sequence[Embedding] = ()
    text: str | None = None
    k: int = 10
    filter: Json | None = None
    max_distance: float | None = None
    exclude: Sequence[int] = ()
    recall: float | None = None
    strategy: str | None = None
    diverse: float | None = None
    distinct: float | None = None
    group_by: str | None = None
    cursor: str | None = None
    explain: bool = False
    in_space: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """An image found; a score where words were searched for, a distance where it has one."""

    image: Image
    distance: float | None
    score: float | None = None
    text_score: float | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a request, in the order of the SQL function that gave it.

    `space` is None where words alone were searched for. `complete`, of a search within max_distance: whether these are
    all; None where that was not asked or not proven. `next`: the cursor of the page that follows; None on the last.
    """

    hits: list[Hit]
    space: str | None
    plan: Json | None = None
    complete: bool | None = None
    next: str | None = None


class _Options(TypedDict):
    """What most of the SQL functions take."""

    k: int
    filter: Json | None
    max_distance: float | None
    exclude: Sequence[int]
    recall: float | None


class _PlainOptions(_Options):
    strategy: str | None


def contradiction(given: Collection[str], called: Callable[[str], str] = str) -> str | None:
    """Say why these options of a request do not make one search, or return None.

    `given` are names of Request's fields (like and unlike for embeddings too); `called` is how the door calls them.
    """
    for first, second in (*combinations(_MODES, 2), ("text", "max_distance")):
        if first in given and second in given:
            return f"{called(first)} and {called(second)} cannot be combined: choose one"
    for mode in _MODES:
        if mode in given and "strategy" in given:
            return (
                f"{called(mode)} and {called('strategy')} cannot be combined; {called('recall')} 1 is exact with both"
            )
    if {"query", "image_id"} <= set(given):
        return (
            f"{called('query')} and {called('image_id')} cannot be combined: choose one; the other can be in"
            f" {called('like')}"
        )
    if not _SUBJECTS.intersection(given):
        # A door may have one name for two of them.
        positive = ", ".join(dict.fromkeys(called(name) for name in ("image_id", "query", "like")))
        if "unlike" in given:
            return f"{called('unlike')} needs a positive example beside it: one of {positive}"
        if "text" not in given:
            return f"nothing to search for: give one of {positive}, {called('text')}"
        if "recall" in given:
            return f"{called('text')} alone and {called('recall')} cannot be combined: words are searched exactly"
    return None


def run(conn: Connection, request: Request) -> Found:
    """Answer a request, by one statement, or by a few in one transaction throughout which one space is active.

    The errors are those of the SQL functions. SpaceChangedError where the embeddings given are of another space by now.
    """
    given = _given(request)
    problem = contradiction(given)
    if problem:
        raise InvalidInputError(problem)
    if not _SUBJECTS.intersection(given):
        return _by_words(conn, request)
    if given <= _PLAIN:
        return _plain(conn, request)
    with conn.transaction():
        return _beyond(conn, request, spaces.hold(conn, expected=request.in_space))


def run_with_images(
    conn: Connection,
    images: Sequence[bytes],
    make: Callable[[Space, list[Embedding]], Request],
    *,
    timeout: float,
    answer: Callable[[Request], Found] | None = None,
) -> tuple[Request, Found, float]:
    """Have images embedded in the active space, and answer the request that `make` makes of the embeddings.

    Where the active space changes in between, all of it is done again in the new one. Returns the request, the answer,
    and the seconds that embedding took. The connection, to the primary, is in autocommit; `answer` asks another server
    in its place, where that may be. The errors are those of `queries.embed` too.
    """
    seconds = 0.0
    for _ in range(_MOST_SWITCHES):
        began = time.perf_counter()
        space = spaces.active(conn)
        embeddings = [query_images.embed(conn, image, timeout=timeout, space=space) for image in images]
        seconds += time.perf_counter() - began
        asked = make(space, embeddings)
        try:
            return asked, run(conn, asked) if answer is None else answer(asked), seconds
        except SpaceChangedError as error:
            log.info("a search is done again: %s", error)
    raise SpaceChangedError("the active space changed again and again")


def _beyond(conn: Connection, request: Request, space: Held) -> Found:
    query, options = resolved(conn, request)
    if request.cursor is not None:
        return _page(conn, query, options, request.cursor, space)
    if request.text is not None:
        return _fused(conn, query, options, request.text, space)
    if request.group_by is not None:
        groups = explore.grouped(conn, query, group_by=request.group_by, **options)
        hits = [Hit(one.neighbor.image, one.neighbor.distance, group=one.group) for one in groups]
        return Found(hits, space.name)
    if request.diverse is not None:
        return Found(_hits(explore.diverse(conn, query, relevance=request.diverse, **options)), space.name)
    if request.distinct is not None:
        return Found(_hits(explore.distinct(conn, query, threshold=request.distinct, **options)), space.name)
    return _radius(conn, query, {**options, "strategy": request.strategy}, explain=request.explain)


def _given(request: Request) -> set[str]:
    """The names of what decides the kind of search."""
    given = {name for name in _DECIDING if getattr(request, name) is not None}
    given |= {"like"} if request.like or request.like_embeddings else set()
    return given | ({"unlike"} if request.unlike or request.unlike_embeddings else set())


def _by_words(conn: Connection, request: Request) -> Found:
    matches = explore.text(conn, request.text or "", k=request.k, filter=request.filter, exclude=request.exclude)
    return Found([Hit(one.image, None, one.score, one.text_score) for one in matches], space=None)


def _plain(conn: Connection, request: Request) -> Found:
    options: search.Options = {
        "k": request.k,
        "filter": request.filter,
        "exclude": request.exclude,
        "recall": request.recall,
        "strategy": request.strategy,
        "explain": request.explain,
        "in_space": request.in_space,
    }
    if request.query is not None:
        answer = search.search(conn, request.query, **options)
    else:
        answer = search.similar(conn, request.image_id or 0, **options)
    return Found(_hits(answer.neighbors), answer.space, answer.plan)


def resolved(conn: Connection, request: Request) -> tuple[Embedding, _Options]:
    """Return the embedding to search by, and the options with what to leave out: what is searched by does not find
    itself."""
    stored = [] if request.image_id is None else [request.image_id]
    options: _Options = {
        "k": request.k,
        "filter": request.filter,
        "max_distance": request.max_distance,
        "exclude": [*request.exclude, *stored, *request.like, *request.unlike],
        "recall": request.recall,
    }
    if not {"like", "unlike"} & _given(request):
        query = explore.embedding_of(conn, stored[0]) if request.query is None else request.query
        return query, options
    given = [] if request.query is None else [request.query]
    query = explore.example_query(
        conn,
        like=[*stored, *request.like],
        unlike=request.unlike,
        like_embeddings=[*given, *request.like_embeddings],
        unlike_embeddings=request.unlike_embeddings,
    )
    return query, options


def _page(conn: Connection, query: Embedding, options: _Options, cursor: str, space: Held) -> Found:
    limits = {name: value for name, value in options.items() if name in ("filter", "max_distance")}
    # The embedding as the database gets it. k may change from page to page.
    embedding = np.asarray(query, "<f2").tobytes()
    asked = cursors.fingerprint(embedding, space.id, space.fingerprint, limits, sorted(set(options["exclude"])))
    page = explore.page(
        conn,
        query,
        k=options["k"],
        filter=options["filter"],
        after=cursors.read(cursor, asked),
        max_distance=options["max_distance"],
        exclude=options["exclude"],
    )
    following = None if page.next is None else cursors.write(page.next, asked)
    return Found(_hits(page.neighbors), space.name, next=following)


def _fused(conn: Connection, query: Embedding, options: _Options, words: str, space: Held) -> Found:
    matches = explore.fused(
        conn,
        query,
        words,
        k=options["k"],
        filter=options["filter"],
        exclude=options["exclude"],
        recall=options["recall"],
    )
    return Found([Hit(one.image, one.distance, one.score, one.text_score) for one in matches], space.name)


def _radius(conn: Connection, query: Embedding, options: _PlainOptions, *, explain: bool) -> Found:
    """The k nearest, within max_distance where there is one, and whether these are all within it.

    One row too many proves that they are not all, at the cost of an index search. Only where there is none, and the
    search was not exact, has an exact scan to prove that nothing is missing; a recall below 1 asks to do without.
    """
    k, limit, recall = options["k"], options["max_distance"], options["recall"]
    if limit is None:
        answer = search.search(conn, query, **options, explain=explain)
        return Found(_hits(answer.neighbors), answer.space, answer.plan)
    one_more: _PlainOptions = {**options, "k": min(k + 1, MAX_K)}
    answer = search.search(conn, query, **one_more, explain=True)
    neighbors, plan, complete = answer.neighbors[:k], dict(answer.plan), None
    if len(answer.neighbors) > k:
        complete = False
    elif plan["proven"] and len(answer.neighbors) < MAX_K:
        complete = True
    elif options["strategy"] != "index" and (recall is None or recall == 1):
        found = explore.within(
            conn, query, max_distance=limit, filter=options["filter"], max_rows=k, exclude=options["exclude"]
        )
        neighbors, complete = found.neighbors, found.complete
        plan |= {"strategy": "index, then exact", "reason": "all within max_distance", "proven": True}
    plan |= {"rows": len(neighbors), "truncated": len(neighbors) == k if complete is None else not complete}
    return Found(_hits(neighbors), answer.space, plan, complete=complete)


def _hits(neighbors: list[Neighbor]) -> list[Hit]:
    return [Hit(one.image, one.distance) for one in neighbors]
