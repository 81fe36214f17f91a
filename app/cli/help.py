"""Help pages: their epilogs print examples verbatim, then wrapped paragraphs."""

from textwrap import dedent
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def examples(*lines: str, after: str = "") -> str:
    """Return an epilog: one line per example, then the paragraphs of `after`, which wrap at the terminal's width."""
    block = "\n".join(f"  {line}" for line in lines)
    return f"Examples:\n{block}\n\n{dedent(after).strip()}".strip()


def _unwrapped(text: str | None) -> str | None:
    # typer prints the line breaks of a docstring, except in its first paragraph.
    return text and "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _print_epilog(epilog: str | None) -> None:
    # typer would join the lines of the examples and parse square brackets as markup.
    import sys

    from app.cli import output

    for paragraph in (epilog or "").split("\n\n"):
        if paragraph.startswith("Examples:"):
            output.out(paragraph)
        elif paragraph:
            output.prose(" ".join(paragraph.split()))
        if paragraph:
            output.out("")
    sys.stdout.flush()


class Command(TyperCommand):
    """A command that prints its epilog verbatim."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 — click's or typer's, by version
        self.help = _unwrapped(self.help)
        epilog, self.epilog = self.epilog, None
        super().format_help(ctx, formatter)
        self.epilog = epilog
        _print_epilog(epilog)


class Group(TyperGroup):
    """A group that prints its epilog verbatim."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 — click's or typer's, by version
        epilog, self.epilog = self.epilog, None
        super().format_help(ctx, formatter)
        self.epilog = epilog
        _print_epilog(epilog)
