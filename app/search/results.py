"""Answers to searches: what was found, in order."""

from dataclasses import dataclass

from app.store.images import Image
from app.types import Json


@dataclass(frozen=True, slots=True)
class Neighbor:
    """One result of a search; distance is L2 between unit vectors, 0 to 2."""

    distance: float
    image: Image


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found, nearest first, in which space, and how (`lookalike.explain_search`)."""

    neighbors: list[Neighbor]
    space: str
    plan: Json


@dataclass(frozen=True, slots=True)
class Hit:
    """An image found; a score where words were searched for, a distance where it has one."""

    image: Image
    distance: float | None
    score: float | None = None
    text_score: float | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to a request, in the order of the SQL function that gave it.

    `space` is None where words alone were searched for. `complete`, of a search within max_distance: whether these are
    all; None where that was not asked or not proven. `next`: the cursor of the page that follows; None on the last.
    """

    hits: list[Hit]
    space: str | None
    plan: Json | None = None
    complete: bool | None = None
    next: str | None = None
