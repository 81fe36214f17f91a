"""How far a run is and how long it will take yet."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.index.spec import IndexSpec
from app.tuning.apply import build_of
from app.tuning.records import Request


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: the share done, by time foreseen, what is at work, and the time left once it can be told."""

    done: float
    now: str
    seconds_left: float | None


ProgressCallback = Callable[[Progress], None]

# Told from then on: earlier, it would be a guess.
_TOLD_FROM = 0.03


class Clock:
    """Seconds foreseen for each part, corrected by how long those done so far really took."""

    def __init__(
        self, request: Request, rows: int, groups: Sequence[Sequence[IndexSpec]], callback: ProgressCallback | None
    ) -> None:
        """Foresee the parts of measuring these choices, grouped by build, on so many rows."""
        rows = min(request.sample, rows)
        searches = request.queries * (1 + request.rounds) * 0.003
        crowds = len(request.clients) * (request.seconds + 0.1)
        self._callback = callback
        self._began = time.monotonic()
        self._foreseen = {"copy": 1 + rows * 4e-5}
        for group in groups:
            self._foreseen[build_of(group[0])] = 0.2 if group[0].kind == "exact" else 0.3 + rows * 8e-4
            for choice in group:
                self._foreseen[f"{choice} searched"] = searches
                self._foreseen[f"{choice} crowded"] = crowds
        self._total = sum(self._foreseen.values())
        self._done = 0.0

    def report(self, now: str, *, part: str | None = None, share: float = 0.0) -> None:
        """Tell what is at work, and what share of a part is done."""
        if not self._callback:
            return
        done = (self._done + share * self._foreseen.get(part or "", 0.0)) / self._total
        elapsed = time.monotonic() - self._began
        self._callback(Progress(min(done, 1.0), now, elapsed * (1 - done) / done if done > _TOLD_FROM else None))

    def finish(self, part: str) -> None:
        """Count a part as done; one that is not known, or done already, counts nothing."""
        self._done += self._foreseen.pop(part, 0.0)
