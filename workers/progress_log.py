"""Says now and then in the log how fast the worker is, and where its time goes."""

import logging
import time

from workers.heartbeat import Progress
from workers.stage_timings import Timings

log = logging.getLogger(__name__)

_SUMMARY_SECONDS = 10.0


class Summary:
    """Adds up the time in which the worker had work, and logs a line when there is something new to tell."""

    def __init__(self, progress: Progress, timings: Timings) -> None:
        self._progress = progress
        self._timings = timings
        self._busy_since: float | None = None
        self._busy_seconds = 0.0
        self._told_at = time.monotonic()
        self._told = (0, 0, 0, 0)

    def tick(self, *, busy: bool) -> None:
        """Take note of whether there is work at this moment."""
        now = time.monotonic()
        if self._busy_since is not None:
            self._busy_seconds += now - self._busy_since
            self._progress.busy_seconds += now - self._busy_since
        self._busy_since = now if busy else None
        if now - self._told_at >= _SUMMARY_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Log the work done since the last line, if any."""
        self._told_at = time.monotonic()
        now = self._progress
        done = (now.embedded, now.reused, now.failed, now.answered)
        if done == self._told:
            return
        embedded, reused, failed, answered = (new - old for new, old in zip(done, self._told, strict=True))
        stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in sorted(self._timings.take().items()))
        log.info(
            "%d images embedded, %d of them reused, %d failed, %d queries answered in %.1f s of work, "
            "%.1f images/s; seconds: %s",
            embedded,
            reused,
            failed,
            answered,
            self._busy_seconds,
            embedded / self._busy_seconds if self._busy_seconds else 0.0,
            stages,
        )
        self._told, self._busy_seconds = done, 0.0
