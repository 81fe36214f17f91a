"""One line that tells how something endless goes, and an orderly end. Imports app.cli.output, and rich."""

import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from app.cli import output

if TYPE_CHECKING:
    from app.arrivals import Arrivals

_PLAIN_SECONDS = 10.0


@contextmanager
def line() -> Iterator[Callable[[str], None]]:
    """Yield `show(text)`: a line on stderr that changes in place; without a terminal, at most one in ten seconds."""
    if not sys.stderr.isatty():
        yield _plain()
        return
    from rich.live import Live
    from rich.text import Text

    with Live(Text(""), console=output.console_of(sys.stderr), transient=True, refresh_per_second=8) as live:
        yield lambda text: live.update(Text(text, no_wrap=True, overflow="ellipsis"))


def _plain() -> Callable[[str], None]:
    told, at = "", time.monotonic()

    def show(text: str) -> None:
        nonlocal told, at
        if text != told and time.monotonic() - at >= _PLAIN_SECONDS:
            told, at = text, time.monotonic()
            output.say(text)

    return show


@contextmanager
def ended_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at Ctrl-C or SIGTERM; the second one ends at once."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def once(_number: int, _frame: FrameType | None) -> None:
        restore()
        stop()

    for number in before:
        signal.signal(number, once)
    try:
        yield
    finally:
        restore()


def seconds(value: float | None) -> str:
    """Return a short duration as a person reads it."""
    return "–" if value is None else f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def sentence(said: str, numbers: Iterable[tuple[int, str]], arrivals: "Arrivals") -> str:
    """Return `said`, what is not zero of `numbers`, and how far and how soon the images became searchable."""
    for number, what in (
        *numbers,
        (arrivals.on_the_way, "on the way"),
        (arrivals.failed, "failed: lookalike failures"),
    ):
        if number:
            said += f", {number:,} {what}"
    if arrivals.searchable:
        said += (
            f"; {arrivals.searchable:,} searchable, {seconds(arrivals.percentile(0.5))} after their commit"
            f" (p95 {seconds(arrivals.percentile(0.95))})"
        )
    return said
