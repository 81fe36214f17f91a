"""Terminal output: results as tables or JSON on stdout, messages on stderr."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text


def console_of(file: TextIO) -> "Console":
    """Return a console on this stream that prints text verbatim."""
    from rich.console import Console

    # No markup, because uris, captions and reasons may contain square brackets. Without a terminal no line is cut.
    width = None if file.isatty() else 10_000
    return Console(file=file, markup=False, highlight=False, emoji=False, soft_wrap=True, width=width)


def note(message: str, *, style: str | None = None) -> None:
    """Print a message to stderr."""
    console_of(sys.stderr).print(message, style=style)


def note_text(text: "Text") -> None:
    """Print styled text to stderr."""
    console_of(sys.stderr).print(text)


def error(message: str) -> None:
    """Print an error message to stderr."""
    from rich.text import Text

    note_text(Text.assemble(("error:", "bold red"), " ", shown(message, keep="\n")))


def out(text: str) -> None:
    """Print text to stdout, verbatim."""
    sys.stdout.write(text + "\n")


def prose(text: str) -> None:
    """Print a paragraph to stdout, wrapped at the terminal's width or 100 columns."""
    import shutil
    import textwrap

    out(textwrap.fill(text, min(shutil.get_terminal_size().columns, 100)))


def as_json(value: object) -> None:
    """Print JSON to stdout: dataclasses as objects, times in ISO 8601."""
    out(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def shown(text: object, *, keep: str = "") -> str:
    """Return text for one line of a terminal: control characters, line breaks and broken UTF-8 are escaped."""
    return "".join(
        letter
        if letter.isprintable() or letter in keep
        else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in str(text)
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table to stdout; see `made_table`."""
    made = made_table(columns, rows, title=title)
    console = console_of(sys.stdout)
    if console.is_terminal:
        console.print(made, soft_wrap=False)
    else:
        with console.capture() as captured:
            console.print(made)
        sys.stdout.write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")


def made_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> "Table":
    """Return a table. A column named `>x` is aligned to the right; None prints as a dash.

    If the terminal is too narrow, only the last column wraps, so that the others can be copied.
    """
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for name in columns:
        last = name == columns[-1]
        made.add_column(
            name.lstrip(">"),
            justify="right" if name.startswith(">") else "left",
            no_wrap=not last,
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(Text("–" if cell is None else shown(cell)) for cell in row))
    return made


def count(number: int, noun: str, *, capped: int | None = None) -> str:
    """Return `1 image` or `1,200 images`, or `100,000+ images` if counting stopped at `capped`."""
    plus = "+" if capped is not None and number >= capped else ""
    plural = "" if number == 1 else "es" if noun.endswith("ch") else "s"
    return f"{number:,}{plus} {noun}{plural}"


def size(number: float) -> str:
    """Return a number of bytes with a decimal unit: `3.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def latency(seconds: float | None) -> str | None:
    """Return a latency, to two digits: `23 ms`, `1.4 s`, `12 min`."""
    if seconds is None:
        return None
    if seconds < 1:
        return f"{seconds * 1000:.{0 if seconds >= 0.01 else 1}f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else age(seconds)


def age(seconds: float | None) -> str | None:
    """Return a duration, in whole units: `90 s`, `12 min`, `3 h`, `2 d`."""
    if seconds is None:
        return None
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


@contextmanager
def live() -> "Iterator[Live]":
    """Yield a live display on stdout's terminal; call `update` to change it."""
    from rich.console import Console
    from rich.live import Live

    with Live(
        console=Console(file=sys.stdout, markup=False, highlight=False, emoji=False), auto_refresh=False
    ) as shown:
        yield shown
