"""Logs the worker's rate and the time of each stage now and then."""

import logging
import time

from workers.heartbeat import Progress
from workers.stage_timings import Timings

log = logging.getLogger(__name__)

_SUMMARY_SECONDS = 10.0


class Summary:
    """Adds up the time in which the worker had work, and logs a line every ten seconds if there is progress."""

    def __init__(self, progress: Progress, timings: Timings) -> None:
        self._progress = progress
        self._timings = timings
        self._busy_since: float | None = None
        self._busy_seconds = 0.0
        self._logged_at = time.monotonic()
        self._logged = (0, 0, 0, 0)

    def tick(self, *, busy: bool) -> None:
        """Record whether there is work now."""
        now = time.monotonic()
        if self._busy_since is not None:
            self._busy_seconds += now - self._busy_since
            self._progress.busy_seconds += now - self._busy_since
        self._busy_since = now if busy else None
        if now - self._logged_at >= _SUMMARY_SECONDS:
            self.log_progress()

    def log_progress(self) -> None:
        """Log the work since the last line, if any."""
        self._logged_at = time.monotonic()
        now = self._progress
        done = (now.embedded, now.reused, now.failed, now.answered)
        if done == self._logged:
            return
        embedded, reused, failed, answered = (new - old for new, old in zip(done, self._logged, strict=True))
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
        self._logged, self._busy_seconds = done, 0.0
