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
    "lookalike psql                                          interactive",
    'lookalike psql -c "SELECT count(*) FROM gallery"',
    "lookalike psql -f report.sql -At",
    after="""
All arguments go to psql. The search_path is lookalike, public. The exit code is psql's own. The embedded server runs
as long as psql does.
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
            "there is no psql here; install PostgreSQL's client (Debian: apt install postgresql-client)"
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
    # psql knows what to do with Ctrl-C; we only wait for it. A handler, unlike SIG_IGN, is not inherited.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = subprocess.run(
            [program, "-d", make_conninfo("", **parts), *arguments], env=environment, check=False
        ).returncode
    except OSError as error:
        raise ConfigurationError(f"{program} cannot be run: {error.strerror}") from error
    finally:
        signal.signal(signal.SIGINT, before)
    if code < 0:
        output.say(f"psql was ended by signal {-code}")
    return code if code >= 0 else 128 - code
