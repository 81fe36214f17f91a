"""`lookalike duplicates`. Imports `explore`, `filters`, `images` and `cli`."""

from itertools import groupby
from typing import Annotated

import typer

from app.cli import output, session
from app.cli.text import Json, examples

EPILOG = examples(
    "lookalike duplicates                       groups of images that look the same",
    "lookalike duplicates --threshold 0.2       the same but for a few pixels",
    'lookalike duplicates --where \'{"seller": "a"}\' --json',
    after="""
Two images are in one group where a chain of images leads from one to the other, each step at most the threshold long
(L2, 0 to 2; 0.35 is a cosine similarity of 0.94), or where their bytes are the same. A group is named by its
smallest id. Costs one index search an image.
""",
)


def duplicates(
    threshold: Annotated[float, typer.Option(min=0, max=2, help="The longest step from image to image.")] = 0.35,
    where: Annotated[
        str | None, typer.Option(metavar="JSON", help="Only images whose attributes and columns fit this filter.")
    ] = None,
    json: Json = False,
) -> None:
    """List groups of near-duplicates."""
    from app import explore, filters, images

    filter_ = filters.parse(where) if where is not None else None
    with session.connection() as conn:
        found = explore.near_duplicates(conn, threshold=threshold, filter=filter_)
        stored = {one.id: one for one in images.get_many(conn, [one.image_id for one in found])}
    if json:
        groups = groupby(found, lambda one: one.group_id)
        output.as_json([{"group": group, "images": list(members)} for group, members in groups])
        return
    output.table(
        [">group", ">id", ">distance", "uri"],
        # An image deleted since the groups were found is left out.
        [
            (one.group_id, one.image_id, f"{one.distance:.4f}", stored[one.image_id].uri)
            for one in found
            if one.image_id in stored
        ],
    )
    if not found:
        output.say(f"no two images within {threshold:g} of each other")
