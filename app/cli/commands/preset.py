"""`lookalike preset`: settings that belong together, for four cases."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, session
from app.cli.help import Command, Group, Json, examples

if TYPE_CHECKING:
    from app.tuning.presets import Line

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Settings that belong together: a social feed, live cameras, a shop, a medical archive.",
    epilog=examples(
        "lookalike preset ls",
        "lookalike preset show shop           what it wants, and what there is now",
        "lookalike preset apply shop          searches and writes go on meanwhile",
        after="""
Each has a page in docs/ with its measured numbers. What fits your own images best: lookalike tradeoffs, lookalike tune.
""",
    ),
)
Name = Annotated[str, typer.Argument(help="The preset; lookalike preset ls lists them.")]
SpaceName = Annotated[str | None, typer.Option("--space", metavar="NAME", help="Left out, the active space.")]


@app.command("ls", cls=Command)
def ls(json: Json = False) -> None:
    """List the presets."""
    from app.tuning import presets

    if json:
        output.as_json(presets.PRESETS)
    else:
        output.table(["preset", "for", "index"], [(one.name, one.title, one.choice) for one in presets.PRESETS])


@app.command("show", cls=Command)
def show(name: Name, space: SpaceName = None, json: Json = False) -> None:
    """Show what a preset wants, beside what there is now."""
    from app.store import spaces
    from app.tuning import presets

    preset = presets.get(name)
    home = session.settings().home.absolute()
    with session.connection() as conn:
        chosen = spaces.active(conn) if space is None else spaces.get(conn, space)
        lines = presets.compare(conn, preset, chosen, home)
    if json:
        output.as_json({"preset": preset, "settings": lines})
        return
    output.out(f"{preset.title}. {preset.why}")
    _table(lines)


@app.command("apply", cls=Command)
def apply(name: Name, space: SpaceName = None, json: Json = False) -> None:
    """Make index, tables, database and settings of processes as the preset wants them; begun again at any time."""
    from app.store import spaces
    from app.tuning import presets

    preset = presets.get(name)
    home = session.settings().home.absolute()
    with session.connection() as conn:
        chosen = spaces.active(conn) if space is None else spaces.get(conn, space)
        lines = presets.apply(conn, preset, chosen, home, report=output.say)
    if json:
        output.as_json({"preset": preset, "settings": lines})
    else:
        _table(lines)
    if preset.environment:
        output.say("workers and API read their settings at their start: start them again")


def _table(lines: "list[Line]") -> None:
    output.table(
        ["", "where", "setting", "preset", "now"],
        [("✓" if one.holds else "", one.place, one.name, one.wanted, one.now) for one in lines],
    )
