"""What ends when it is told to: an orderly end, and what a line about it says."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.ingest.tracker import IngestTracker


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


def sentence(said: str, numbers: Iterable[tuple[int, str]], tracker: "IngestTracker") -> str:
    """Return `said`, what is not zero of `numbers`, and how far and how soon the images became searchable."""
    for number, what in (
        *numbers,
        (tracker.pending, "on the way"),
        (tracker.failed, "failed: lookalike failures"),
    ):
        if number:
            said += f", {number:,} {what}"
    if tracker.searchable:
        said += (
            f"; {tracker.searchable:,} searchable, {seconds(tracker.percentile(0.5))} after their commit"
            f" (p95 {seconds(tracker.percentile(0.95))})"
        )
    return said
