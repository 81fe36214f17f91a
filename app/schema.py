"""Schema revisions: migrate; do database and code agree? Imports `db` and `errors`, and Alembic to migrate."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from app import db
from app.errors import SchemaError

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parents[1] / "migrations"
_REVISION = re.compile(r'^revision: str = "(\w+)"$', re.MULTILINE)
_DOWN_REVISION = re.compile(r'^down_revision: str(?: \| None)? = (?:"(\w+)"|None)$', re.MULTILINE)


def config(url: str, *, lose_data: bool = False) -> "Config":
    """Return Alembic's configuration for this database; `lose_data` is its `-x lose=data`."""
    from argparse import Namespace

    from alembic.config import Config

    made = Config(cmd_opts=Namespace(x=["lose=data"] if lose_data else []))
    made.set_main_option("script_location", str(_MIGRATIONS))
    made.attributes["url"] = url
    return made


@cache
def revisions() -> tuple[str, ...]:
    """Return all revisions of this code, the oldest first."""
    # Not by Alembic: with SQLAlchemy it takes longer to import than most commands take to run.
    above: dict[str | None, str] = {}
    for file in (_MIGRATIONS / "versions").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        name, below = _REVISION.search(text), _DOWN_REVISION.search(text)
        if name and below:
            above[below[1]] = name[1]
    found: list[str] = []
    while (following := above.get(found[-1] if found else None)) is not None:
        found.append(following)
    if not found:
        raise SchemaError(f"no migrations under {_MIGRATIONS}; the installation is incomplete")
    return tuple(found)


def head() -> str:
    """Return the revision that this code wants."""
    return revisions()[-1]


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database up to `revision`, one transaction a revision. Needs the right to create a schema."""
    from alembic import command

    with _translated():
        command.upgrade(config(url), revision)


def downgrade(url: str, revision: str = "-1", *, lose_data: bool = False) -> None:
    """Take the database down by one revision, or to `revision`.

    A revision that would lose rows says how many and of what, and raises SchemaError unless `lose_data`.
    """
    from alembic import command

    with _translated():
        command.downgrade(config(url, lose_data=lose_data), revision)


@contextmanager
def _translated() -> Iterator[None]:
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

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
    if found in revisions():
        raise SchemaError(f'the database is at revision {found}, this code wants {wanted}; run "lookalike migrate"')
    raise SchemaError(f"the database is at revision {found}, newer than this code ({wanted}); upgrade Lookalike")
