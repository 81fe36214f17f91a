"""Retry with backoff and jitter while the database is unavailable."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from app.errors import DatabaseUnavailableError

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_SECONDS = 0.2
_MAX_SECONDS = 15.0
# An action that ran this long, and longer than the pause before it, had a connection: the backoff starts over.
_HEALTHY_SECONDS = 1.0


def until_available(action: Callable[[], T], *, pause: Callable[[float], bool]) -> T | None:
    """Return the result of `action`, retried while it raises DatabaseUnavailableError; other errors propagate.

    `pause` sleeps the given seconds and returns whether to retry. If it returns False, return None.
    """
    attempt, seconds = 0, 0.0
    while True:
        began = time.monotonic()
        try:
            return action()
        except DatabaseUnavailableError as error:
            attempt = 1 if time.monotonic() - began > max(_HEALTHY_SECONDS, seconds) else attempt + 1
            seconds = backoff(attempt, first=_FIRST_SECONDS, most=_MAX_SECONDS)
            log.warning("the database is not available, next try in %.1f s: %s", seconds, error)
        if not pause(seconds):
            return None


def backoff(attempt: int, *, first: float, most: float, factor: float = 2.0) -> float:
    """Return the seconds to wait after failure number `attempt`.

    The delay grows by `factor` up to `most`; jitter takes off up to half of it.
    """
    return min(most, first * factor ** min(max(attempt - 1, 0), 50)) * random.uniform(0.5, 1.0)  # noqa: S311
