"""Track images from their commit until they are searchable."""

import time
from collections import deque
from collections.abc import Iterable

from app.db import Connection, sql, translated

_TRACKED = 5000
_FEW = 100
_MEASURED = 1000


class IngestTracker:
    """Pending images by id, and how long the latest thousand took from commit to searchable.

    It tracks at most 5,000 images at a time, so that a poll stays cheap; further ones are not measured.
    """

    def __init__(self) -> None:
        self.searchable = 0
        self.failed = 0
        self._since: dict[int, float] = {}
        self._seconds: deque[float] = deque(maxlen=_MEASURED)
        self._polled = 0.0

    @property
    def pending(self) -> int:
        """The number of tracked images that are not searchable yet."""
        return len(self._since)

    def add(self, ids: Iterable[int], *, since: float | None = None) -> None:
        """Track these images, committed just now, or at `since` on the monotonic clock."""
        now = time.monotonic() if since is None else since
        for id_ in ids:
            if len(self._since) < _TRACKED:
                self._since[id_] = now

    def age(self) -> float:
        """Return for how many seconds the oldest image has been pending; 0 if none is."""
        return time.monotonic() - next(iter(self._since.values())) if self._since else 0.0

    def seconds_to_poll(self) -> float | None:
        """Return the seconds until `poll` is worth its query; None if no image is pending."""
        if not self._since:
            return None
        pause = 2.0 if self.age() > 60 else 0.05 if len(self._since) <= _FEW else 0.5
        return max(0.0, self._polled + pause - time.monotonic())

    def poll(self, conn: Connection) -> None:
        """Query the database, if it is time, for images that are searchable or have failed."""
        if self.seconds_to_poll() != 0:
            return
        with translated():
            rows = conn.execute(sql.query("ingest_settled"), {"ids": list(self._since)}).fetchall()
        self._polled = now = time.monotonic()
        for id_, searchable in rows:
            since = self._since.pop(int(str(id_)))
            if searchable:
                self.searchable += 1
                self._seconds.append(now - since)
            else:
                self.failed += 1

    def percentile(self, share: float) -> float | None:
        """Return a percentile of the seconds from commit to searchable; `share` 0.95 is p95, None without images."""
        ordered = sorted(self._seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
