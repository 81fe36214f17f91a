"""Tries again, with back-off and jitter, while the database cannot be reached."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from app.errors import DatabaseUnavailableError

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_SECONDS = 0.2
_MOST_SECONDS = 15.0
# What lasted so long, and longer than the pause before it, worked: the next trouble begins with short pauses again.
_SOUND_SECONDS = 1.0


def until_available(action: Callable[[], T], *, pause: Callable[[float], bool]) -> T | None:
    """Return what `action` returns, tried until the database is there; every other error goes through.

    `pause` sleeps the given seconds and tells whether to go on; where not, None is returned.
    """
    attempt, seconds = 0, 0.0
    while True:
        began = time.monotonic()
        try:
            return action()
        except DatabaseUnavailableError as error:
            attempt = 1 if time.monotonic() - began > max(_SOUND_SECONDS, seconds) else attempt + 1
            seconds = backoff(attempt, first=_FIRST_SECONDS, most=_MOST_SECONDS)
            log.warning("the database is not available, next try in %.1f s: %s", seconds, error)
        if not pause(seconds):
            return None


def backoff(attempt: int, *, first: float, most: float, factor: float = 2.0) -> float:
    """Return seconds to wait after the `attempt`-th failure: growing by `factor`, between half and all of that."""
    return min(most, first * factor ** min(max(attempt - 1, 0), 50)) * random.uniform(0.5, 1.0)  # noqa: S311
