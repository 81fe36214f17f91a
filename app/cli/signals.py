"""Commands that run until a signal: orderly shutdown and the status line."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.ingest.tracker import IngestTracker


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGINT or SIGTERM. A second signal has its usual effect."""
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
    """Return a short duration: `23 ms` or `1.4 s`."""
    return "–" if value is None else f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def status_line(start: str, counts: Iterable[tuple[int, str]], tracker: "IngestTracker") -> str:
    """Return `start`, the counts that are not zero, and how many images became searchable how soon."""
    text = start
    for count, what in (
        *counts,
        (tracker.pending, "queued"),
        (tracker.failed, "failed: lookalike failures"),
    ):
        if count:
            text += f", {count:,} {what}"
    if tracker.searchable:
        text += (
            f"; {tracker.searchable:,} searchable, {seconds(tracker.percentile(0.5))} after their commit"
            f" (p95 {seconds(tracker.percentile(0.95))})"
        )
    return text
