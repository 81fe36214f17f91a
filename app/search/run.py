"""Answer a search: by one statement, or by a few in one transaction throughout which one space is active."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np

from app.db import Connection
from app.errors import InvalidInputError, SpaceChangedError
from app.search import cursor as cursors
from app.search import functions
from app.search.request import MAX_K, PLAIN, SUBJECTS, Request, conflicting_options, given_options
from app.search.results import Hit, Neighbor, SearchResult
from app.store import query_images, spaces
from app.store.spaces import PinnedSpace, Space
from app.types import Embedding, Json

log = logging.getLogger(__name__)


# So many switches of the active space in a row does a search by a picture outlive.
_MOST_SWITCHES = 3


class _Options(TypedDict):
    """What most of the SQL functions take."""

    k: int
    filter: Json | None
    max_distance: float | None
    exclude: Sequence[int]
    recall: float | None


class _PlainOptions(_Options):
    strategy: str | None


def run_search(conn: Connection, request: Request) -> SearchResult:
    """Answer a request, by one statement, or by a few in one transaction throughout which one space is active.

    The errors are those of the SQL functions. SpaceChangedError where the embeddings given are of another space by now.
    """
    given = given_options(request)
    problem = conflicting_options(given)
    if problem:
        raise InvalidInputError(problem)
    if not SUBJECTS.intersection(given):
        return _by_words(conn, request)
    if given <= PLAIN:
        return _plain(conn, request)
    with conn.transaction():
        return _beyond(conn, request, spaces.pin_active(conn, expected=request.in_space))


def run_image_search(
    conn: Connection,
    images: Sequence[bytes],
    make: Callable[[Space, list[Embedding]], Request],
    *,
    timeout: float,
    answer: Callable[[Request], SearchResult] | None = None,
) -> tuple[Request, SearchResult, float]:
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
            return asked, run_search(conn, asked) if answer is None else answer(asked), seconds
        except SpaceChangedError as error:
            log.info("a search is done again: %s", error)
    raise SpaceChangedError("the active space changed again and again")


def _beyond(conn: Connection, request: Request, space: PinnedSpace) -> SearchResult:
    query, options = query_and_options(conn, request)
    if request.cursor is not None:
        return _page(conn, query, options, request.cursor, space)
    if request.text is not None:
        return _fused(conn, query, options, request.text, space)
    if request.group_by is not None:
        groups = functions.grouped(conn, query, group_by=request.group_by, **options)
        hits = [Hit(one.neighbor.image, one.neighbor.distance, group=one.group) for one in groups]
        return SearchResult(hits, space.name)
    if request.diverse is not None:
        return SearchResult(_hits(functions.diverse(conn, query, relevance=request.diverse, **options)), space.name)
    if request.distinct is not None:
        return SearchResult(_hits(functions.distinct(conn, query, threshold=request.distinct, **options)), space.name)
    return _radius(conn, query, {**options, "strategy": request.strategy}, explain=request.explain)


def _by_words(conn: Connection, request: Request) -> SearchResult:
    matches = functions.text(conn, request.text or "", k=request.k, filter=request.filter, exclude=request.exclude)
    return SearchResult([Hit(one.image, None, one.score, one.text_score) for one in matches], space=None)


def _plain(conn: Connection, request: Request) -> SearchResult:
    options: functions.Options = {
        "k": request.k,
        "filter": request.filter,
        "exclude": request.exclude,
        "recall": request.recall,
        "strategy": request.strategy,
        "explain": request.explain,
        "in_space": request.in_space,
    }
    if request.query is not None:
        answer = functions.search(conn, request.query, **options)
    else:
        answer = functions.similar(conn, request.image_id or 0, **options)
    return SearchResult(_hits(answer.neighbors), answer.space, answer.plan)


def query_and_options(conn: Connection, request: Request) -> tuple[Embedding, _Options]:
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
    if not {"like", "unlike"} & given_options(request):
        query = functions.embedding_of(conn, stored[0]) if request.query is None else request.query
        return query, options
    given = [] if request.query is None else [request.query]
    query = functions.example_query(
        conn,
        like=[*stored, *request.like],
        unlike=request.unlike,
        like_embeddings=[*given, *request.like_embeddings],
        unlike_embeddings=request.unlike_embeddings,
    )
    return query, options


def _page(conn: Connection, query: Embedding, options: _Options, cursor: str, space: PinnedSpace) -> SearchResult:
    limits = {name: value for name, value in options.items() if name in ("filter", "max_distance")}
    # The embedding as the database gets it. k may change from page to page.
    embedding = np.asarray(query, "<f2").tobytes()
    asked = cursors.fingerprint(embedding, space.id, space.fingerprint, limits, sorted(set(options["exclude"])))
    page = functions.page(
        conn,
        query,
        k=options["k"],
        filter=options["filter"],
        after=cursors.read(cursor, asked),
        max_distance=options["max_distance"],
        exclude=options["exclude"],
    )
    following = None if page.next is None else cursors.write(page.next, asked)
    return SearchResult(_hits(page.neighbors), space.name, next=following)


def _fused(conn: Connection, query: Embedding, options: _Options, words: str, space: PinnedSpace) -> SearchResult:
    matches = functions.fused(
        conn,
        query,
        words,
        k=options["k"],
        filter=options["filter"],
        exclude=options["exclude"],
        recall=options["recall"],
    )
    return SearchResult([Hit(one.image, one.distance, one.score, one.text_score) for one in matches], space.name)


def _radius(conn: Connection, query: Embedding, options: _PlainOptions, *, explain: bool) -> SearchResult:
    """The k nearest, within max_distance where there is one, and whether these are all within it.

    One row too many proves that they are not all, at the cost of an index search. Only where there is none, and the
    search was not exact, has an exact scan to prove that nothing is missing; a recall below 1 asks to do without.
    """
    k, limit, recall = options["k"], options["max_distance"], options["recall"]
    if limit is None:
        answer = functions.search(conn, query, **options, explain=explain)
        return SearchResult(_hits(answer.neighbors), answer.space, answer.plan)
    one_more: _PlainOptions = {**options, "k": min(k + 1, MAX_K)}
    answer = functions.search(conn, query, **one_more, explain=True)
    neighbors, plan, complete = answer.neighbors[:k], dict(answer.plan), None
    if len(answer.neighbors) > k:
        complete = False
    elif plan["proven"] and len(answer.neighbors) < MAX_K:
        complete = True
    elif options["strategy"] != "index" and (recall is None or recall == 1):
        found = functions.within(
            conn, query, max_distance=limit, filter=options["filter"], max_rows=k, exclude=options["exclude"]
        )
        neighbors, complete = found.neighbors, found.complete
        plan |= {"strategy": "index, then exact", "reason": "all within max_distance", "proven": True}
    plan |= {"rows": len(neighbors), "truncated": len(neighbors) == k if complete is None else not complete}
    return SearchResult(_hits(neighbors), answer.space, plan, complete=complete)


def _hits(neighbors: list[Neighbor]) -> list[Hit]:
    return [Hit(one.image, one.distance) for one in neighbors]
