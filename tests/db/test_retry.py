"""Retries while the database is unavailable: pauses grow, and start over once a connection has worked."""

from collections.abc import Callable

import pytest

from app.db import retry
from app.errors import DatabaseUnavailableError


@pytest.fixture
def pauses(monkeypatch) -> Callable[..., list[float]]:
    """Return a function that returns the pauses after actions that fail after the given seconds of a fake clock."""
    now = [0.0]
    monkeypatch.setattr(retry.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(retry.random, "uniform", lambda _, high: high)

    def run(*lasted: float) -> list[float]:
        left, paused = list(lasted), []

        def action() -> None:
            now[0] += left.pop(0)
            raise DatabaseUnavailableError("away")

        def pause(seconds: float) -> bool:
            paused.append(seconds)
            return bool(left)

        assert retry.until_available(action, pause=pause) is None
        return paused

    return run


def test_pauses_grow_while_attempts_fail(pauses):
    assert pauses(*[0.0] * 9) == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15, 15]


def test_a_connection_that_outlasts_its_pause_resets_the_backoff(pauses):
    assert pauses(0, 0, 0, 0, 3, 0.1) == [0.2, 0.4, 0.8, 1.6, 0.2, 0.4]
    assert pauses(0, 0, 0, 0, 1.5, 0.1) == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
