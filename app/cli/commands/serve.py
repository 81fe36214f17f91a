"""`lookalike worker` and `lookalike serve`."""

import importlib.util
import logging
import os
import sys
from typing import TYPE_CHECKING

import typer

from app.cli import session
from app.cli.help import examples
from app.errors import ConfigurationError, DatabaseRefusedError, DatabaseUnavailableError

if TYPE_CHECKING:
    from app.config import Settings

log = logging.getLogger(__name__)

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
    """Serve the HTTP API (and the page) until it is ended, at LOOKALIKE_HOST and LOOKALIKE_PORT.

    While the database is not there it answers 503, also from the start on.
    """
    from app.web import server

    settings = session.settings(log_format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with session.database() as url:
        try:
            _check(url, settings)
        except DatabaseRefusedError:
            raise  # waiting would not mend a wrong name or password
        except DatabaseUnavailableError as error:
            log.warning("answering 503 until the database is there: %s", error)
        server.serve(settings, url)


def _check(url: str, settings: "Settings") -> None:
    """See that the schema is there and that somebody may come in: else the service would start and help nobody."""
    from app import db
    from app.db import schema
    from app.web import auth

    with db.translated(), db.connect(url, autocommit=True) as conn:
        schema.check(conn)
        auth.check_start(conn, settings)
