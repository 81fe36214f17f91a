"""Rate limits (Flask-Limiter), and limits on concurrent requests."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, g, request
from flask_limiter import Limiter
from limits import parse_many
from werkzeug.exceptions import TooManyRequests

from app.config import Settings
from app.errors import ConfigurationError, OverloadedError
from app.web.auth import required_scope


def register(app: Flask, settings: Settings) -> None:
    """Limit the requests of each key, or of each address if no key is sent.

    Raises:
        ConfigurationError: LOOKALIKE_RATE_LIMIT is malformed.
    """
    if settings.concurrency_limit is not None:
        _limit_concurrency(app, settings.concurrency_limit)
    if not settings.rate_limit:
        return
    try:
        parse_many(settings.rate_limit)
    except ValueError as error:
        raise ConfigurationError(
            f"LOOKALIKE_RATE_LIMIT={settings.rate_limit} is not a valid rate limit; write 50/second; 1000/minute"
        ) from error
    Limiter(
        _caller,
        app=app,
        application_limits=[settings.rate_limit],
        application_limits_exempt_when=_exempt,
        storage_uri=settings.rate_limit_storage,
        headers_enabled=True,
        # If the storage is down, each process counts by itself.
        in_memory_fallback=[settings.rate_limit],
        in_memory_fallback_enabled=not settings.rate_limit_storage.startswith("memory:"),
    )


def _limit_concurrency(app: Flask, limit: int) -> None:
    running: Counter[str] = Counter()
    lock = threading.Lock()

    def enter() -> None:
        if _exempt():
            return
        caller = _caller()
        with lock:
            if running[caller] < limit:
                running[caller] += 1
                g.runs_as = caller
                return
        refused = TooManyRequests(f"{limit} of your requests are already running (LOOKALIKE_CONCURRENCY_LIMIT)")
        refused.retry_after = 1
        raise refused

    def leave(_error: BaseException | None) -> None:
        caller = g.pop("runs_as", None)
        if caller is not None:
            with lock:
                running[caller] -= 1
                if not running[caller]:
                    del running[caller]

    app.before_request(enter)
    app.teardown_request(leave)


def _caller() -> str:
    key = g.get("api_key")
    return f"address {request.remote_addr}" if key is None else f"key {key.id}"


def _exempt() -> bool:
    return request.endpoint is None or required_scope(request.endpoint, request.method) is None


class ConcurrencyLimit:
    """A limit on concurrent work. Beyond it, callers are rejected at once and never wait."""

    def __init__(self, count: int, *, what: str) -> None:
        self._free = threading.BoundedSemaphore(count)
        self._what = what

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Occupy a slot within the block.

        Raises:
            OverloadedError: all slots are occupied.
        """
        if not self._free.acquire(blocking=False):
            raise OverloadedError(f"too many {self._what} at once; try again in a moment")
        try:
            yield
        finally:
            self._free.release()
