"""Schema revisions: migrate, and tell whether database and code agree. Imports `db` and `errors`."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from app import db
from app.errors import SchemaError

_MIGRATIONS = Path(__file__).parents[1] / "migrations"


def config(url: str, *, lose_data: bool = False) -> Config:
    """Return Alembic's configuration for this database; `lose_data` is its `-x lose=data`."""
    made = Config(cmd_opts=Namespace(x=["lose=data"] if lose_data else []))
    made.set_main_option("script_location", str(_MIGRATIONS))
    made.attributes["url"] = url
    return made


def head() -> str:
    """Return the revision that this code wants."""
    revision = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
    if revision is None:
        raise SchemaError(f"no migrations under {_MIGRATIONS}; the installation is incomplete")
    return revision


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database up to `revision`, one transaction a revision. Needs the right to create a schema."""
    with _translated():
        command.upgrade(config(url), revision)


def downgrade(url: str, revision: str = "-1", *, lose_data: bool = False) -> None:
    """Take the database down by one revision, or to `revision`.

    A revision that would lose rows says how many and of what, and raises SchemaError unless `lose_data`.
    """
    with _translated():
        command.downgrade(config(url, lose_data=lose_data), revision)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        with db.translated():
            yield
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise db.translate(error.orig) from error
        raise
    except CommandError as error:
        raise SchemaError(str(error)) from error


def current(connection: db.Connection) -> str | None:
    """Return the database's revision; None where the schema is not there."""
    row = connection.execute("SELECT to_regclass('lookalike.alembic_version') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return None
    row = connection.execute("SELECT version_num FROM lookalike.alembic_version").fetchone()
    return None if row is None else str(row[0])


def check(connection: db.Connection) -> None:
    """Raise SchemaError, in one line, unless the database stands at the revision that this code wants."""
    found, wanted = current(connection), head()
    if found == wanted:
        return
    if found is None:
        raise SchemaError('the database has no Lookalike schema yet; run "lookalike migrate"')
    known = {script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}
    if found in known:
        raise SchemaError(f'the database is at revision {found}, this code wants {wanted}; run "lookalike migrate"')
    raise SchemaError(f"the database is at revision {found}, newer than this code ({wanted}); upgrade Lookalike")
