"""Request logging: a line for each slow or failed request, as text or JSON, with its id.

Headers, bodies and query strings are never logged, because they hold keys, vectors and pictures.
"""

import json
import logging
import sys
import time
from datetime import UTC, datetime

from flask import Flask, Response, g, has_request_context, request

from app.config import Settings
from app.web import telemetry
from app.web.errors import request_id

logger = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message; in a request its id and trace; the error, if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if has_request_context():
            entry["request_id"] = request_id()
            entry.update(telemetry.trace())
        entry.update(getattr(record, "request", {}))
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def configure(settings: Settings) -> None:
    """Set up this process's logging, including gunicorn's, in the configured format."""
    if settings.log_format == "json":
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        root = logging.getLogger()
        for old in root.handlers[:]:
            root.removeHandler(old)
        root.addHandler(handler)


def register(app: Flask, settings: Settings) -> None:
    """Log all requests at DEBUG, and those that take longer than `slow_ms` at WARNING."""

    def begin() -> None:
        g.began = time.perf_counter()

    def end(response: Response) -> Response:
        ms = (time.perf_counter() - g.get("began", time.perf_counter())) * 1000
        slow = settings.slow_ms is not None and ms >= settings.slow_ms
        level = logging.WARNING if slow else logging.DEBUG
        if logger.isEnabledFor(level):
            key = g.get("api_key")
            fields = {
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "ms": round(ms, 3),
                "timing": response.headers.get("Server-Timing"),
                "key": None if key is None else key.prefix,
            }
            logger.log(
                level,
                "%s%s %s %d in %.1f ms (%s) [request %s]",
                "slow: " if slow else "",
                request.method,
                request.path,
                response.status_code,
                ms,
                fields["timing"] or "",
                request_id(),
                extra={"request": fields},
            )
        return response

    app.before_request(begin)
    app.after_request(end)
