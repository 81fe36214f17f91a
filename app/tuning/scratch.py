"""Create scratch databases on the server of the real one, or on another, and drop them when the run ends.

Their name and comment mark them. A live run holds an advisory lock, which pg_locks shows in every database of the
server, so that the next run can drop the database of a killed one.
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

# Never change these two, because they mark databases that runs of earlier releases left.
_PREFIX = "lookalike_lab_"
_COMMENT = "Scratch database of Lookalike's trade-off lab; the next run drops it"
LOCK_CLASS = 0x100CA1B  # first key of the lock; the second is a hash of the database's name


def _key(name: str) -> int:
    return zlib.crc32(name.encode()) - 2**31


@contextmanager
def database(url: str) -> Iterator[str]:
    """Yield the URL of a new, migrated database on the server at `url`; it is dropped at the end of the block.

    Scratch databases of killed runs are dropped first.

    Raises:
        ConfigurationError: the role may not create databases.
    """
    name = f"{_PREFIX}{secrets.token_hex(4)}"
    # Not by db.connect, because the database at this URL may lack pgvector's types.
    with translated(), psycopg.connect(url, autocommit=True, application_name="lookalike tradeoffs") as admin:
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
    """Drop the scratch databases of this server without a live run; return their names. In autocommit."""
    values = {"prefix": _PREFIX.replace("_", r"\_") + "%", "comment": _COMMENT}
    with translated(), admin.cursor(row_factory=scalar_row) as cursor:
        found = [str(name) for name in cursor.execute(sql.query("scratch_databases"), values).fetchall()]
        leftovers = []
        for name in found:
            held = cursor.execute(
                sql.query("scratch_held"), {"lock_class": LOCK_CLASS, "key": _key(name) % 2**32}
            ).fetchone()
            if not held:
                leftovers.append(name)
    for name in leftovers:
        _drop(admin, name)
    return leftovers


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
                f"role {admin.info.user} may not create the scratch database for the measurement; run as a superuser: "
                f'ALTER ROLE "{admin.info.user}" CREATEDB, or name another server: --scratch-url'
            ) from error
        raise


def _drop(admin: Connection, name: str) -> None:
    with translated():
        admin.execute(pgsql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(pgsql.Identifier(name)))
