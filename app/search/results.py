"""Answers to searches: what was found, in order."""

from dataclasses import dataclass

from app.records import Image, Json


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
