"""Migrate the schema, and check that database and code fit."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from app import db
from app.db import sql
from app.errors import SchemaError

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parents[2] / "migrations"
_REVISION = re.compile(r'^revision: str = "(\w+)"$', re.MULTILINE)
_DOWN_REVISION = re.compile(r'^down_revision: str(?: \| None)? = (?:"(\w+)"|None)$', re.MULTILINE)

_AHEAD = "the database is at a revision newer than this code, and serves it; migrate it with the newer code"


def config(url: str, *, lose_data: bool = False, **attributes: object) -> "Config":
    """Return Alembic's configuration for this database; `lose_data` stands for its `-x lose=data`.

    migrations/env.py reads the `attributes` patience and cursor.
    """
    from argparse import Namespace

    from alembic.config import Config

    made = Config(cmd_opts=Namespace(x=["lose=data"] if lose_data else []))
    made.set_main_option("script_location", str(_MIGRATIONS))
    made.attributes |= {"url": url, **{name: value for name, value in attributes.items() if value is not None}}
    return made


@cache
def revisions() -> tuple[str, ...]:
    """Return all revisions of this code, oldest first."""
    # Not through Alembic, because importing it takes longer than most commands take to run.
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
    """Return the newest revision of this code."""
    return revisions()[-1]


def upgrade(url: str, revision: str = "head", *, patience: float | None = None) -> None:
    """Upgrade the database to `revision`, in one transaction per revision. The role needs CREATE on the database.

    Searches and writes continue; none waits longer than a second.

    Raises:
        ConflictError: a revision found no moment, or another migration ran, for `patience` seconds (None: 60).
        SchemaError: the database is ahead of this code.
    """
    from alembic import command

    with _translated():
        wanted = _absolute(url, revision)
        if wanted is None and revision != "head":
            raise SchemaError(_AHEAD)
        if wanted is not None:
            command.upgrade(config(url, patience=patience), wanted)


def downgrade(url: str, revision: str = "-1", *, lose_data: bool = False, patience: float | None = None) -> None:
    """Downgrade the database by one revision, or to `revision`. Locks and errors are those of `upgrade`.

    Raises:
        SchemaError: a revision would lose rows and `lose_data` is False; the message counts them by table.
    """
    from alembic import command

    with _translated():
        wanted = _absolute(url, revision)
        if wanted is None:
            raise SchemaError(_AHEAD)
        command.downgrade(config(url, lose_data=lose_data, patience=patience), wanted)


def _absolute(url: str, revision: str) -> str | None:
    """Return the target revision with -1 or +2 resolved, so that a retry after a partial migration keeps its target.

    Return None if the database is ahead of this code and serves it: there is nothing to do.

    Raises:
        SchemaError: the database is ahead of this code and does not serve it.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        found = current(connection)
        known: tuple[str | None, ...] = (None, *revisions())
        if found not in known:
            check(connection)
            return None
    if not re.fullmatch(r"[-+]\d+", revision):
        return revision
    at = known.index(found) + int(revision)
    return (known[at] or "base") if 0 <= at < len(known) else revision


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
    """Return the database's revision, or None if the schema is missing."""
    row = connection.execute("SELECT to_regclass('lookalike.alembic_version') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return None
    row = connection.execute("SELECT version_num FROM lookalike.alembic_version").fetchone()
    return None if row is None else str(row[0])


def check(connection: db.Connection) -> str:
    """Return the database's revision if it serves this code.

    Raises:
        SchemaError: it does not; the message is one line.
    """
    found, wanted = current(connection), head()
    if found == wanted:
        return wanted
    if found is None:
        raise SchemaError('the database has no Lookalike schema yet; run "lookalike migrate"')
    if found in revisions():
        raise SchemaError(f'the database is at revision {found}, this code needs {wanted}; run "lookalike migrate"')
    row = connection.execute(sql.query("schema_serves"), {"head": wanted}).fetchone()
    if row is None or not row[0]:
        raise SchemaError(f"the database is at revision {found}, newer than this code ({wanted}); upgrade Lookalike")
    return found
