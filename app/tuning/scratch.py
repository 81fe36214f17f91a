"""Scratch databases: made on the server of the real one, or on another, and gone when the run ends, however it ends.

Their name and their comment tell them from a user's. A run that lives holds an advisory lock, which shows in pg_locks
to every database of the server, so that what a killed one left is known and dropped by the next.
"""

import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg
from psycopg import sql as pgsql
from psycopg.conninfo import make_conninfo
from psycopg.rows import scalar_row

from app.db import Connection, schema, sql, translated
from app.errors import ConfigurationError

_PREFIX = "lookalike_lab_"
_COMMENT = "Scratch database of Lookalike's trade-off lab; the next run drops it"
# The first key of the lock; the second is a hash of the database's name.
LOCK_CLASS = 0x100CA1B


def _key(name: str) -> int:
    return zlib.crc32(name.encode()) - 2**31


@contextmanager
def database(url: str) -> Iterator[str]:
    """Yield the URL of a new, migrated database on the server at `url`; dropped at the end of the block.

    Leftovers of killed runs are dropped first. ConfigurationError where the role may create no database.
    """
    name = f"{_PREFIX}{secrets.token_hex(4)}"
    # Not by db.connect: a server for scratch databases alone need not have pgvector's types in this one.
    with translated(), psycopg.connect(url, autocommit=True, application_name="lookalike lab") as admin:
        admin.execute("SET statement_timeout = 0")
        sweep(admin)
        admin.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_CLASS, _key(name)))
        try:
            _create(admin, name)
            scratch = make_conninfo(url, dbname=name)
            schema.upgrade(scratch)
            yield scratch
        finally:
            _drop(admin, name)


def sweep(admin: Connection) -> list[str]:
    """Drop the scratch databases of this server that no live run holds; return their names. In autocommit."""
    values = {"prefix": _PREFIX.replace("_", r"\_") + "%", "comment": _COMMENT}
    with translated(), admin.cursor(row_factory=scalar_row) as cursor:
        found = [str(name) for name in cursor.execute(sql.query("scratch_databases"), values).fetchall()]
        left = []
        for name in found:
            held = cursor.execute(
                sql.query("scratch_held"), {"lock_class": LOCK_CLASS, "key": _key(name) % 2**32}
            ).fetchone()
            if not held:
                left.append(name)
    for name in left:
        _drop(admin, name)
    return left


def _create(admin: Connection, name: str) -> None:
    try:
        with translated():
            admin.execute(pgsql.SQL("CREATE DATABASE {} TEMPLATE template0").format(pgsql.Identifier(name)))
            admin.execute(
                pgsql.SQL("COMMENT ON DATABASE {} IS {}").format(pgsql.Identifier(name), pgsql.Literal(_COMMENT))
            )
    except ConfigurationError as error:
        if isinstance(error.__cause__, pg.InsufficientPrivilege):
            raise ConfigurationError(
                f"role {admin.info.user} may not create the scratch database that choices are measured in; as a "
                f'superuser: ALTER ROLE "{admin.info.user}" CREATEDB, or name a server where it may by --scratch-url'
            ) from error
        raise


def _drop(admin: Connection, name: str) -> None:
    with translated():
        admin.execute(pgsql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(pgsql.Identifier(name)))
