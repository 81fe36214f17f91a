"""`lookalike duplicates`."""

from typing import Annotated

import typer

from app.cli import output, session
from app.cli.help import examples

EPILOG = examples(
    "lookalike duplicates                   groups of images that look the same",
    "lookalike duplicates --threshold 0.2   images that differ in a few pixels only",
    'lookalike duplicates --where \'{"seller": "a"}\' --json',
    after="""
Images belong to one group if their bytes are equal, or if a chain of images connects them whose every step is within
the threshold (L2 distance, 0 to 2; 0.35 is a cosine similarity of 0.94). The smallest id names the group. The command
runs one index search per image.
""",
)


def duplicates(
    threshold: Annotated[float, typer.Option(min=0, max=2, help="Largest distance between two neighbours.")] = 0.35,
    where: Annotated[
        str | None, typer.Option(metavar="JSON", help="Filter on attributes and columns: only matching images.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of groups, smallest ids first.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print JSON in the form of GET /v1/duplicates.")] = False,
) -> None:
    """List groups of near-duplicate images."""
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
        output.note(f"no two images within {threshold:g} of each other")
    elif len(found.groups) < found.total:
        output.note(f"{len(found.groups):,} of {found.total:,} groups; raise --limit to see more")
