"""Progress on stderr: a bar on a terminal, else a line every ten seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.cli import output

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

_PLAIN_SECONDS = 10.0


@dataclass
class _PlainLines:
    """Prints at most one line every ten seconds, never the same one twice in a row."""

    _last: str = ""
    _printed_at: float = field(default_factory=time.monotonic)

    def print(self, text: str) -> None:
        """Print the line if it is new and due."""
        if text != self._last and time.monotonic() - self._printed_at >= _PLAIN_SECONDS:
            self._last, self._printed_at = text, time.monotonic()
            output.note(text)


@contextmanager
def counted(description: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Yield `advance_to(done, note)`; show a bar of `total` items with rate and time left."""
    rate = _Rate()
    if not sys.stderr.isatty():
        lines = _PlainLines()

        def print_line(done: int, note: str = "") -> None:
            speed = rate.at(done)
            left = f", {output.age((total - done) / speed)} left" if speed else ""
            lines.print(f"{description}: {done:,} of {total:,}, {speed:.0f}/s{left}{', ' if note else ''}{note}")

        yield print_line
        return
    from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn

    speed = TextColumn("{task.fields[rate]}", markup=False)
    with _bar(MofNCompleteColumn(), speed, TimeRemainingColumn(compact=True)) as bar:
        task = bar.add_task(description, total=total, rate="", note="")

        def advance_to(done: int, note: str = "") -> None:
            bar.update(task, completed=done, rate=f"{rate.at(done):.0f}/s", note=note)

        yield advance_to


@contextmanager
def share(description: str) -> Iterator[Callable[[float, str], None]]:
    """Yield `show(done, note)`, `done` from 0 to 1; show a bar with the note, which contains the time left."""
    if not sys.stderr.isatty():
        lines = _PlainLines()
        yield lambda done, note: lines.print(f"{description}: {done:.0%}, {note}")
        return
    from rich.progress import TaskProgressColumn

    with _bar(TaskProgressColumn()) as bar:
        task = bar.add_task(description, total=1.0, note="")
        yield lambda done, note: bar.update(task, completed=done, note=note)


@contextmanager
def line() -> Iterator[Callable[[str], None]]:
    """Yield `show(text)`, which changes one line in place; for work without a known end."""
    if not sys.stderr.isatty():
        yield _PlainLines().print
        return
    from rich.live import Live
    from rich.text import Text

    with Live(Text(""), console=output.console_of(sys.stderr), transient=True, refresh_per_second=8) as live:
        yield lambda text: live.update(Text(text, no_wrap=True, overflow="ellipsis"))


def _bar(*columns: "ProgressColumn") -> "Progress":
    """Return a bar; `columns` show its state between the bar and the task's note."""
    from rich.progress import BarColumn, Progress, TextColumn

    description, note = (TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[note]"))
    return Progress(
        description,
        BarColumn(bar_width=30),
        *columns,
        note,
        console=output.console_of(sys.stderr),
        transient=True,
    )


@dataclass
class _Rate:
    """Items per second since the first ones were done, because a worker loads its model before that."""

    _began: float = 0.0
    _first: int = 0

    def at(self, done: int) -> float:
        now = time.monotonic()
        if not self._first:
            self._began, self._first = now, done
        return (done - self._first) / max(now - self._began, 1e-9)
