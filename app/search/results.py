"""Answers to searches: what was found, in order."""

from dataclasses import dataclass

from app.store.images import Image
from app.types import Json


@dataclass(frozen=True, slots=True)
class Hit:
    """An image that a search found.

    `distance` is L2 between unit vectors, 0 to 2; None if the image was found by words alone. Scores and group belong
    to searches that have them.
    """

    image: Image
    distance: float | None
    score: float | None = None
    text_score: float | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to a request, in the order of the SQL function that gave it.

    `space` is None if the search was by words alone. `plan` is that of lookalike.explain_search. `complete` is whether
    these are all within max_distance; None if that was not asked or not proven. `next` is the cursor of the following
    page; None on the last.
    """

    hits: list[Hit]
    space: str | None
    plan: Json | None = None
    complete: bool | None = None
    next: str | None = None
