"""Report the progress of a run, with an estimate of the time left."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.index.spec import IndexSpec
from app.tuning.apply import build_of
from app.tuning.records import Request


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run: `done` is a share of the estimated time; `seconds_left` is None early in the run."""

    done: float
    now: str
    seconds_left: float | None


ProgressCallback = Callable[[Progress], None]

# Share done from which on the time left is reported; earlier it would be a guess.
_ESTIMATE_FROM = 0.03


class ProgressMeter:
    """Estimates the seconds of each part of a run, and corrects them by the time that finished parts took."""

    def __init__(
        self, request: Request, rows: int, groups: Sequence[Sequence[IndexSpec]], callback: ProgressCallback | None
    ) -> None:
        """Estimate the parts of measuring these specs, grouped by build, on at most `rows` rows."""
        rows = min(request.sample, rows)
        searches = request.queries * (1 + request.rounds) * 0.003
        throughput = len(request.clients) * (request.seconds + 0.1)
        self._callback = callback
        self._began = time.monotonic()
        self._estimates = {"copy": 1 + rows * 4e-5}
        for group in groups:
            self._estimates[build_of(group[0])] = 0.2 if group[0].access is None else 0.3 + rows * 8e-4
            for spec in group:
                self._estimates[f"{spec} latency"] = searches
                self._estimates[f"{spec} throughput"] = throughput
        self._total = sum(self._estimates.values())
        self._done = 0.0

    def report(self, now: str, *, part: str | None = None, share: float = 0.0) -> None:
        """Report the current step, and the share of a part that is done."""
        if not self._callback:
            return
        done = (self._done + share * self._estimates.get(part or "", 0.0)) / self._total
        elapsed = time.monotonic() - self._began
        self._callback(Progress(min(done, 1.0), now, elapsed * (1 - done) / done if done > _ESTIMATE_FROM else None))

    def finish(self, part: str) -> None:
        """Count a part as done; a part that is unknown or done already changes nothing."""
        self._done += self._estimates.pop(part, 0.0)
