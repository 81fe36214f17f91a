"""A search as users ask for it: which options go together, and which SQL function answers.

The doors (CLI, HTTP) differ in how they read a request and show what was found; what it means is here, once. The
options text, diverse, distinct, group_by and cursor choose another SQL function each, so that only one of them can be
given; k, filter and exclude go with all.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

from app.types import Embedding, Json

MAX_K = 10_000


# Each by a SQL function of its own.
_MODES = ("text", "diverse", "distinct", "group_by", "cursor")
# These and examples decide the kind of search.
_DECIDING = (*_MODES, "query", "image_id", "max_distance", "recall", "strategy")
# What gives a search its embedding; an uploaded or read image is `query`, as a vector is.
SUBJECTS = frozenset({"query", "image_id", "like"})
# With no more than these, lookalike.search answers.
PLAIN = frozenset({"query", "image_id", "recall", "strategy"})


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


def conflicting_options(given: Collection[str], called: Callable[[str], str] = str) -> str | None:
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
    if not SUBJECTS.intersection(given):
        # A door may have one name for two of them.
        positive = ", ".join(dict.fromkeys(called(name) for name in ("image_id", "query", "like")))
        if "unlike" in given:
            return f"{called('unlike')} needs a positive example beside it: one of {positive}"
        if "text" not in given:
            return f"nothing to search for: give one of {positive}, {called('text')}"
        if "recall" in given:
            return f"{called('text')} alone and {called('recall')} cannot be combined: words are searched exactly"
    return None


def given_options(request: Request) -> set[str]:
    """The names of what decides the kind of search."""
    given = {name for name in _DECIDING if getattr(request, name) is not None}
    given |= {"like"} if request.like or request.like_embeddings else set()
    return given | ({"unlike"} if request.unlike or request.unlike_embeddings else set())
