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
    "LOOKALIKE_HOST=0.0.0.0 LOOKALIKE_PORT=80 lookalike serve",
    after="""
Listens on LOOKALIKE_HOST and LOOKALIKE_PORT. If other machines can reach it, clients need a key: lookalike key create.
While the database is down, also at the start, it answers 503. The API does not need torch, because a worker, here or on
another machine, embeds query images.
""",
)


def check_worker_extra() -> None:
    """Raise ConfigurationError if torch or timm is missing."""
    missing = [name for name in ("torch", "timm") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"a worker needs {' and '.join(missing)}: pip install 'lookalike[worker]'")


def worker(context: typer.Context) -> None:
    """Run a worker, which embeds queued images and query images until you stop it."""
    check_worker_extra()
    session.settings()
    os.execv(sys.executable, [sys.executable, "-m", "workers", *context.args])  # noqa: S606 — no shell is wanted


def serve() -> None:
    """Run the HTTP API and the web page until you stop it."""
    from app.web import server

    settings = session.settings(log_format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with session.database() as url:
        try:
            _check(url, settings)
        except DatabaseRefusedError:
            raise  # waiting does not help against a wrong name or password
        except DatabaseUnavailableError as error:
            log.warning("answering 503 until the database is up: %s", error)
        server.serve(settings, url)


def _check(url: str, settings: "Settings") -> None:
    """Check that the schema matches and that clients have a key if they need one."""
    from app import db
    from app.db import schema
    from app.web import auth

    with db.translated(), db.connect(url, autocommit=True) as conn:
        schema.check(conn)
        auth.check_start(conn, settings)
