"""`lookalike duplicates`."""

from typing import Annotated

import typer

from app.cli import output, session
from app.cli.help import examples

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
    limit: Annotated[int, typer.Option(min=1, help="At most so many groups, those of the smallest ids.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, as GET /v1/duplicates answers.")] = False,
) -> None:
    """List groups of near-duplicates."""
    from app.search import duplicates as domain
    from app.search import filters

    filter_ = filters.parse(where) if where is not None else None
    with session.connection() as conn:
        found = domain.groups(conn, threshold=threshold, filter=filter_, limit=limit)
    if json:
        output.as_json(found)
        return
    output.table(
        [">group", ">id", ">distance", "uri"],
        [
            (group.group, one.image.id, f"{one.distance:.4f}", one.image.uri)
            for group in found.groups
            for one in group.images
        ],
    )
    if not found.groups:
        output.say(f"no two images within {threshold:g} of each other")
    elif len(found.groups) < found.total:
        output.say(f"{len(found.groups):,} of {found.total:,} groups; more by --limit")
