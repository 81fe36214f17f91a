"""How far something is, on stderr: a bar, or without a terminal a line now and then."""

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
    """Says lines on stderr, none twice in a row and at most one in ten seconds."""

    _told: str = ""
    _at: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Say it, if it is news and time to."""
        if text != self._told and time.monotonic() - self._at >= _PLAIN_SECONDS:
            self._told, self._at = text, time.monotonic()
            output.say(text)


@contextmanager
def counted(description: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Yield `advance_to(done, note)`, of `total`: a bar with rate and time left."""
    rate = _Rate()
    if not sys.stderr.isatty():
        lines = _PlainLines()

        def tell(done: int, note: str = "") -> None:
            speed = rate.at(done)
            left = f", {output.age((total - done) / speed)} left" if speed else ""
            lines.say(f"{description}: {done:,} of {total:,}, {speed:.0f}/s{left}{', ' if note else ''}{note}")

        yield tell
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
    """Yield `show(done, note)`, done from 0 to 1, for work whose time left its own clock tells: a bar with the note."""
    if not sys.stderr.isatty():
        lines = _PlainLines()
        yield lambda done, note: lines.say(f"{description}: {done:.0%}, {note}")
        return
    from rich.progress import TaskProgressColumn

    with _bar(TaskProgressColumn()) as bar:
        task = bar.add_task(description, total=1.0, note="")
        yield lambda done, note: bar.update(task, completed=done, note=note)


@contextmanager
def line() -> Iterator[Callable[[str], None]]:
    """Yield `show(text)`, for what has no end: a line that changes in place."""
    if not sys.stderr.isatty():
        yield _PlainLines().say
        return
    from rich.live import Live
    from rich.text import Text

    with Live(Text(""), console=output.console_of(sys.stderr), transient=True, refresh_per_second=8) as live:
        yield lambda text: live.update(Text(text, no_wrap=True, overflow="ellipsis"))


def _bar(*columns: "ProgressColumn") -> "Progress":
    """Return a bar between its description and its tasks' notes; `columns` say how far it is."""
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
    """Images a second, from the first ones on: not counted is the time that a worker took to load its model."""

    _began: float = 0.0
    _first: int = 0

    def at(self, done: int) -> float:
        now = time.monotonic()
        if not self._first:
            self._began, self._first = now, done
        return (done - self._first) / max(now - self._began, 1e-9)
