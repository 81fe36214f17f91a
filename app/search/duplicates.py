"""Groups of near-duplicates with their images."""

from dataclasses import dataclass
from itertools import groupby

from app.db import Connection
from app.search import functions
from app.store import images
from app.store.images import Image
from app.types import Json


@dataclass(frozen=True, slots=True)
class Member:
    """An image of a group; `distance` is to the nearest other one, L2 between unit vectors."""

    distance: float
    image: Image


@dataclass(frozen=True, slots=True)
class Group:
    """A group of near-duplicates, named by its smallest id."""

    group: int
    images: list[Member]


@dataclass(frozen=True, slots=True)
class Groups:
    """The number of groups, and the groups asked for."""

    total: int
    groups: list[Group]


def groups(
    conn: Connection,
    *,
    threshold: float = 0.35,
    filter: Json | None = None,  # noqa: A002 — the name that search has
    limit: int | None = None,
) -> Groups:
    """Return the groups of near-duplicates by their smallest id, `limit` of them; costs one index search an image."""
    found = functions.near_duplicates(conn, threshold=threshold, filter=filter)
    every = [(group, list(members)) for group, members in groupby(found, lambda one: one.group_id)]
    wanted = every[:limit]
    stored = {one.id: one for one in images.get_many(conn, [one.image_id for _, members in wanted for one in members])}
    return Groups(
        total=len(every),
        groups=[
            # An image deleted since the groups were found is left out.
            Group(group, [Member(one.distance, stored[one.image_id]) for one in members if one.image_id in stored])
            for group, members in wanted
        ],
    )
