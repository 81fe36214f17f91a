"""`lookalike up`: run database, workers and API together."""

import os
import socket
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output, session
from app.cli.commands import serve
from app.cli.help import examples
from app.errors import ConfigurationError, LookalikeError

if TYPE_CHECKING:
    from app.config import Settings

_WORKER_TRIES = 5

EPILOG = examples(
    "lookalike up",
    "lookalike up --workers 0                             no worker here",
    "LOOKALIKE_PORT=0 lookalike up                        any free port",
    "LOOKALIKE_DATABASE_URL=postgresql://… lookalike up   your own server",
    after="""
up migrates the database first. Ctrl-C stops workers, API and embedded server in this order; each worker finishes its
batch. A second Ctrl-C does not wait. A worker that exits is restarted, at most five times in a row. Exit codes: 0
stopped by Ctrl-C or SIGTERM; 1 a process kept exiting.
""",
)


def up(
    workers: Annotated[int, typer.Option(min=0, max=64, help="Number of workers, usually one per GPU.")] = 1,
) -> None:
    """Run the database, a worker and the API together until Ctrl-C."""
    from app import db
    from app.cli.supervisor import Child, Milestone, Supervisor
    from app.db import schema
    from app.media import limits
    from app.web import auth

    settings = session.settings()
    if workers:
        serve.check_worker_extra()
    port = settings.port or _free_port(settings.host)
    _check_port(settings.host, port)
    with session.database() as url:
        schema.upgrade(url)
        with db.translated(), db.connect(url, autocommit=True) as conn:
            auth.check_start(conn, settings)
        output.note("database ready" if settings.database_url else f"embedded PostgreSQL ready in {settings.home}")
        names = [f"worker {number + 1}" if workers > 1 else "worker" for number in range(workers)]
        children = [Child(name, (sys.executable, "-m", "workers"), tries=_WORKER_TRIES) for name in names]
        children.append(Child("api", (sys.executable, "-m", "app.cli", "serve")))
        environment = {
            **os.environ,
            **limits.allowed_sources(settings),
            "LOOKALIKE_DATABASE_URL": url,
            "LOOKALIKE_PORT": str(port),
        }
        address = _address(settings.host, port)
        supervisor = Supervisor(report=output.note, environment=environment)
        milestones = [Milestone(lambda: _answers(address), lambda: _print_addresses(settings, address))]
        if workers:
            milestones.append(Milestone(lambda: _worker_alive(url), lambda: output.note("a worker is ready")))
        code = supervisor.run(children, milestones)
    if code:
        raise LookalikeError("a process of Lookalike kept exiting; its last lines are above")
    output.note("stopped")


def _print_addresses(settings: "Settings", address: str) -> None:
    own = "" if settings.database_url else f"LOOKALIKE_HOME={settings.home.resolve()} "
    output.note(f"API     {address}")
    output.note(f"SQL     {own}lookalike psql")
    output.note(f"images  {own}lookalike ingest FOLDER --wait")
    output.note("Ctrl-C stops all")


def _address(host: str, port: int) -> str:
    named = "127.0.0.1" if host in ("0.0.0.0", "") else "::1" if host == "::" else host  # noqa: S104 — compared only
    return f"http://[{named}]:{port}" if ":" in named else f"http://{named}:{port}"


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=1) as response:  # noqa: S310 — our own address
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _worker_alive(url: str) -> bool:
    import psycopg

    from app.db import sql

    try:
        with psycopg.connect(url, connect_timeout=2) as conn:
            row = conn.execute(sql.query("ingest_waiting"), {"ids": []}).fetchone()
            return bool(row and row[3])
    except psycopg.Error:
        return False


def _free_port(host: str) -> int:
    with _bound(host, 0) as listening:
        return int(listening.getsockname()[1])


def _check_port(host: str, port: int) -> None:
    _bound(host, port).close()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"cannot listen on {host} port {port} ({error.strerror}); set LOOKALIKE_PORT to another, or 0 for any"
        ) from error
    return listening
