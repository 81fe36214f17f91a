"""`lookalike attribute`: indexes on attributes, for faster filters."""

from typing import Annotated

import typer

from app.cli import output, session
from app.cli.help import Command, Group, Json, examples
from app.errors import InvalidInputError

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Manage indexes on attributes. They make filters faster, and never change results.",
    epilog=examples(
        "lookalike attribute add price numeric",
        "lookalike attribute add size.width numeric   nested: {'size': {'width': 3}}",
        "lookalike attribute ls",
        "lookalike attribute drop price",
    ),
)
Name = Annotated[str, typer.Argument(help="Attribute, as filters name it.")]
_TYPES = "numeric, text, boolean, timestamp or text[]"


@app.command("add", cls=Command)
def add(
    name: Name,
    kind: Annotated[str, typer.Argument(metavar="TYPE", help=_TYPES.replace("[", "\\["))],
) -> None:
    """Build an index on an attribute. Reads and writes continue meanwhile."""
    from app.index import attributes

    if kind not in attributes.TYPES:
        raise InvalidInputError(f"type {kind!r} does not exist; choose {_TYPES}")
    with session.connection() as conn:
        made = attributes.add(conn, name, kind)
    output.out(f"{made.index}: {output.size(made.size_bytes)}")


@app.command("ls", cls=Command)
def ls(json: Json = False) -> None:
    """List the indexes on attributes."""
    from app.index import attributes

    with session.connection() as conn:
        found = attributes.ls(conn)
    if json:
        output.as_json(found)
    elif not found:
        output.note("no attribute has an index")
    else:
        output.table(
            ["attribute", "type", "", ">size", ">scans", "index"],
            [
                (
                    one.name,
                    one.type,
                    "ready" if one.valid else "not valid: a build is running or has failed",
                    output.size(one.size_bytes),
                    f"{one.scans:,}",
                    one.index,
                )
                for one in found
            ],
        )


@app.command("drop", cls=Command)
def drop(name: Name) -> None:
    """Drop all indexes on an attribute."""
    from app.index import attributes

    with session.connection() as conn:
        for one in attributes.drop(conn, name):
            output.out(f"dropped {one.index} ({one.type})")
