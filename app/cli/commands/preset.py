"""`lookalike preset`: sets of settings for four use cases."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, session
from app.cli.help import Command, Group, Json, examples

if TYPE_CHECKING:
    from app.tuning.presets import Line

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Apply sets of settings for a use case: social feed, live cameras, shop, medical archive.",
    epilog=examples(
        "lookalike preset ls",
        "lookalike preset show shop    its settings beside the current ones",
        "lookalike preset apply shop   searches and writes continue meanwhile",
        after="""
docs/ has a page per preset with measured numbers. To measure on your own images: lookalike tradeoffs, lookalike tune.
""",
    ),
)
Name = Annotated[str, typer.Argument(help="Preset; lookalike preset ls lists them.")]
SpaceName = Annotated[str | None, typer.Option("--space", metavar="NAME", help="Space. Default: the active one.")]


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
    """Show a preset's settings beside the current ones."""
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
    """Apply a preset to the index, tables, database and process settings. You can run it again at any time."""
    from app.store import spaces
    from app.tuning import presets

    preset = presets.get(name)
    home = session.settings().home.absolute()
    with session.connection() as conn:
        chosen = spaces.active(conn) if space is None else spaces.get(conn, space)
        lines = presets.apply(conn, preset, chosen, home, report=output.note)
    if json:
        output.as_json({"preset": preset, "settings": lines})
    else:
        _table(lines)
    if preset.environment:
        output.note("restart workers and API: they read their settings at start")


def _table(lines: "list[Line]") -> None:
    output.table(
        ["", "where", "setting", "preset", "now"],
        [("✓" if one.holds else "", one.place, one.name, one.wanted, one.now) for one in lines],
    )
