"""Answer a request: by one statement, or by a few in one transaction throughout which one space is active."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from app.db import Connection
from app.errors import InvalidInputError, SpaceChangedError
from app.search import cursor as cursors
from app.search import functions
from app.search.call import Call, call_of
from app.search.functions import call_search
from app.search.request import MAX_K, PLAIN, SUBJECTS, Request, conflicting_options
from app.search.results import Hit, SearchResult
from app.store import query_images, spaces
from app.store.spaces import PinnedSpace, Space
from app.types import Embedding

log = logging.getLogger(__name__)

# A search by a picture is repeated after this many switches of the active space in a row.
_MOST_SWITCHES = 3


def run_search(conn: Connection, request: Request) -> SearchResult:
    """Answer a request; the errors are those of the SQL functions.

    Raises:
        InvalidInputError: the options do not make one search.
        SpaceChangedError: the given embeddings are of a space that is no longer active.
    """
    given = request.given
    if problem := conflicting_options(given):
        raise InvalidInputError(problem)
    if not SUBJECTS.intersection(given):
        return SearchResult(_hits(conn, call_of(request, None)), space=None)
    if given <= PLAIN:
        return _plain(conn, request)
    with conn.transaction():
        space = spaces.pin_active(conn, expected=request.in_space)
        query = query_of(conn, request)
        if request.mode is None:
            return _radius(conn, request, query)
        if request.mode == "cursor":
            return _page(conn, request, query, space)
        return SearchResult(_hits(conn, call_of(request, query)), space.name)


def run_image_search(
    conn: Connection,
    images: Sequence[bytes],
    make: Callable[[Space, list[Embedding]], Request],
    *,
    timeout: float,
    answer: Callable[[Request], SearchResult] | None = None,
) -> tuple[Request, SearchResult, float]:
    """Have images embedded in the active space, and answer the request that `make` makes of the embeddings.

    If the active space changes in between, all of it is done again in the new one. Returns the request, the answer,
    and the seconds that embedding took. The connection, to the primary, is in autocommit; `answer` asks another server
    instead. The errors are those of `query_images.embed` too.
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
            log.info("repeating a search: %s", error)
    raise SpaceChangedError("the active space changed again and again")


def query_of(conn: Connection, request: Request) -> Embedding:
    """Return the embedding that a request searches by, shape (dimensions,)."""
    stored = [] if request.image_id is None else [request.image_id]
    if not {"like", "unlike"} & request.given:
        return functions.embedding_of(conn, stored[0]) if request.query is None else request.query
    given = [] if request.query is None else [request.query]
    return functions.example_query(
        conn,
        like=[*stored, *request.like],
        unlike=request.unlike,
        like_embeddings=[*given, *request.like_embeddings],
        unlike_embeddings=request.unlike_embeddings,
    )


def _hits(conn: Connection, call: Call) -> list[Hit]:
    rows = call_search(conn, call.function, **call.arguments)
    # A search by words alone has one score, which is that of the words.
    return [
        Hit(
            row["image"],
            row.get("distance"),
            row.get("score"),
            row.get("text_score", None if "distance" in row else row.get("score")),
            row.get("group_value"),
        )
        for row in rows
    ]


def _options(request: Request) -> functions.Options:
    return {
        "k": request.k,
        "filter": request.filter,
        "exclude": request.exclude,
        "recall": request.recall,
        "strategy": request.strategy,
        "explain": request.explain,
    }


def _plain(conn: Connection, request: Request) -> SearchResult:
    options: functions.Options = {**_options(request), "in_space": request.in_space}
    if request.query is not None:
        return functions.search(conn, request.query, **options)
    return functions.similar(conn, request.image_id or 0, **options)


def _page(conn: Connection, request: Request, query: Embedding, space: PinnedSpace) -> SearchResult:
    # The embedding as the database gets it. k may change from page to page.
    embedding = np.asarray(query, "<f2").tobytes()
    limits = {"filter": request.filter, "max_distance": request.max_distance}
    search = cursors.fingerprint(embedding, space.id, space.fingerprint, limits, sorted(set(request.left_out)))
    after = cursors.read(str(request.value), search)
    call = call_of(request, query)
    if after is not None:
        call = replace(call, arguments=call.arguments | {"after_distance": after.distance, "after_id": after.image_id})
    hits = _hits(conn, call)
    if len(hits) < request.k:
        return SearchResult(hits, space.name)
    last = cursors.Position(float(hits[-1].distance or 0), hits[-1].image.id)
    return SearchResult(hits, space.name, next=cursors.write(last, search))


def _radius(conn: Connection, request: Request, query: Embedding) -> SearchResult:
    """Return the k nearest, within max_distance if there is one, and whether these are all within it.

    One row too many proves that they are not all, at the cost of an index search. Only if there is none, and the
    search was not exact, an exact scan has to prove that nothing is missing; a recall below 1 does without that proof.
    """
    options: functions.Options = {**_options(request), "exclude": request.left_out}
    k, limit = request.k, request.max_distance
    if limit is None:
        return functions.search(conn, query, **options)
    one_more: functions.Options = {**options, "k": min(k + 1, MAX_K), "max_distance": limit, "explain": True}
    answer = functions.search(conn, query, **one_more)
    hits, plan, complete = answer.hits[:k], dict(answer.plan or {}), None
    if len(answer.hits) > k:
        complete = False
    elif plan["proven"] and len(answer.hits) < MAX_K:
        complete = True
    elif request.strategy != "index" and request.recall in (None, 1):
        rows: list[dict[str, Any]] = call_search(
            conn,
            "within",
            query=query,
            max_distance=limit,
            filter=request.filter,
            max_rows=k,
            exclude=request.left_out,
        )
        hits, complete = [Hit(row["image"], row["distance"]) for row in rows], all(row["complete"] for row in rows)
        plan |= {"strategy": "index, then exact", "reason": "all within max_distance", "proven": True}
    plan |= {"rows": len(hits), "truncated": len(hits) == k if complete is None else not complete}
    return SearchResult(hits, answer.space, plan, complete=complete)
