"""`lookalike worker` and `lookalike serve`. Imports `web.server` and `cli`; the worker is a process of its own."""

import importlib.util
import os
import sys

import typer

from app.cli import session
from app.cli.text import examples
from app.errors import ConfigurationError

EPILOG = examples(
    "lookalike serve",
    "LOOKALIKE_HOST=0.0.0.0 LOOKALIKE_PORT=80 lookalike serve   callers need a key: lookalike key create",
    after="The API needs no torch: a worker embeds query images, here or on another machine.",
)


def check_worker_extra() -> None:
    """Raise ConfigurationError unless a worker can run in this environment."""
    missing = [name for name in ("torch", "timm") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"a worker needs {' and '.join(missing)}: pip install 'lookalike[worker]'")


def worker(context: typer.Context) -> None:
    """Embed queued images and query images, until it is ended; all options go to the worker."""
    check_worker_extra()
    session.settings()
    os.execv(sys.executable, [sys.executable, "-m", "workers", *context.args])  # noqa: S606 — no shell is wanted


def serve() -> None:
    """Serve the HTTP API (and the page) until it is ended, at LOOKALIKE_HOST and LOOKALIKE_PORT."""
    from app import db, schema
    from app.web import access, server

    settings = session.settings(log_format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with session.database() as url:
        with db.translated(), db.connect(url, autocommit=True) as conn:
            schema.check(conn)
            access.check_start(conn, settings)
        server.serve(settings, url)
