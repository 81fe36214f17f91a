"""`lookalike psql`."""

import os
import shutil
import signal
import subprocess

import typer

from app.cli import output, session
from app.cli.help import examples
from app.errors import ConfigurationError

EPILOG = examples(
    "lookalike psql                                     interactive",
    'lookalike psql -c "SELECT count(*) FROM gallery"',
    "lookalike psql -f report.sql -At",
    after="""
psql receives all arguments, runs with search_path "lookalike, public", and returns its own exit code. The embedded
server stops when psql exits.
""",
)


def psql(context: typer.Context) -> None:
    """Open psql on the database."""
    settings = session.settings()
    if settings.database_url:
        code = _run(_of_path(), settings.database_url, context.args)
    else:
        from app.db import embedded

        with embedded.running(settings.home) as server:
            code = _run(str(server.bin_dir / "psql"), server.url, context.args)
    raise typer.Exit(code)


def _of_path() -> str:
    found = shutil.which("psql")
    if found is None:
        raise ConfigurationError(
            "psql is not installed; install PostgreSQL's client (Debian: apt install postgresql-client)"
        )
    return found


def _run(program: str, url: str, arguments: list[str]) -> int:
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    try:
        parts = conninfo_to_dict(url)
    except Exception as error:
        raise ConfigurationError(f"LOOKALIKE_DATABASE_URL is not a PostgreSQL URL: {error}") from error
    environment = dict(os.environ)
    password = parts.pop("password", None)
    if password is not None:
        environment["PGPASSWORD"] = str(password)  # not as an argument, which other users can see
    environment["PGOPTIONS"] = f"{environment.get('PGOPTIONS', '')} -c search_path=lookalike,public".strip()
    # psql handles Ctrl-C itself, so this process ignores it. A child inherits SIG_IGN, but not a handler.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = subprocess.run(
            [program, "-d", make_conninfo("", **parts), *arguments], env=environment, check=False
        ).returncode
    except OSError as error:
        raise ConfigurationError(f"cannot run {program}: {error.strerror}") from error
    finally:
        signal.signal(signal.SIGINT, before)
    if code < 0:
        output.note(f"psql was killed by signal {-code}")
    return code if code >= 0 else 128 - code
